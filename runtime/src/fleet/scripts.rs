//! The Lua scripts. Each is atomic, touches only the keys it is given, and is sent by its hash once the server knows it.
//!
//! Whatever changes what a search may find is also told in the feed, of which the indexes of all processes live. An entry is `p`
//! with pings of free drivers as `id,lat,lng,ms` separated by `;`, or `d` with the ids, separated by `,`, of drivers to be read again.

use redis::Script;

/// Time the feed is kept, s: three times what a follower may be behind before it begins anew. At 12,500 pings a second it is some
/// 10 MB.
const FEED_S: u32 = 15;

/// Adds to the feed and drops what is too old. `tell(key, kind, parts, separator)`.
const TELL: &str = r"
local function tell(key, kind, parts, separator)
  if #parts == 0 then return end
  local oldest = (redis.call('TIME')[1] - FEED_S) * 1000
  redis.call('XADD', key, 'MINID', '~', string.format('%.0f', oldest), '*', kind, table.concat(parts, separator))
end
";

/// A script that tells the feed.
fn telling(body: &str) -> Script {
    Script::new(&format!("{}{body}", TELL.replace("FEED_S", &FEED_S.to_string())))
}

/// All scripts.
pub(super) struct Scripts {
    pub put: Script,
    pub record: Script,
    pub set_status: Script,
    pub hold: Script,
    pub release: Script,
    pub offer_ended: Script,
    pub push_route: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            put: telling(PUT),
            record: telling(RECORD),
            set_status: telling(SET_STATUS),
            hold: telling(HOLD),
            release: telling(RELEASE),
            offer_ended: telling(OFFER_ENDED),
            push_route: Script::new(PUSH_ROUTE),
        }
    }
}

/// Values of a driver given to [`PUT`].
pub(super) const PUT_VALUES: usize = 11;

/// Keys: geo, seen, feed, one hash for each driver. Values: ms by which the cache must be newer to be believed, ms the hash lives,
/// then [`PUT_VALUES`] for each driver. Answers 1 for each driver that was unknown. A place beyond Redis' projection (85 degrees)
/// is kept but not searched: `pcall`.
const PUT: &str = r"
local answers, told = {}, {}
for i = 4, #KEYS do
  local at = 3 + (i - 4) * 11
  local id, lat, lng, ts, iso, status, disp = unpack(ARGV, at, at + 6)
  local known = redis.call('HMGET', KEYS[i], 'ts', 'status', 'idleSince')
  redis.call('HSET', KEYS[i], 'maxD', ARGV[at + 7], 'auto', ARGV[at + 8], 'minFare', ARGV[at + 9], 'regions', ARGV[at + 10])
  if not (known[1] and tonumber(known[1]) > tonumber(ts) + tonumber(ARGV[1])) then
    local idle = ts
    if known[2] == 'ACTIVE' and known[3] then idle = known[3] end
    redis.call('HSET', KEYS[i], 'lat', lat, 'lng', lng, 'ts', ts, 'lastUpdate', iso, 'status', status, 'disp', disp, 'idleSince', idle)
    redis.call('ZADD', KEYS[2], ts, id)
    if status == 'ACTIVE' then redis.pcall('GEOADD', KEYS[1], lng, lat, id) else redis.call('ZREM', KEYS[1], id) end
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
  answers[#answers + 1] = known[1] and 0 or 1
  told[#told + 1] = id
end
tell(KEYS[3], 'd', told, ',')
return answers
";

/// Values of a ping given to [`RECORD`].
pub(super) const RECORD_VALUES: usize = 5;

/// Keys: geo, seen, feed, one hash for each ping. Values: ms before which a driver is stale, stale drivers dropped at most, ms the
/// hash lives, then [`RECORD_VALUES`] for each ping. Answers `?` unknown, `<` outdated, `.` seen, or the dispatch.
const RECORD: &str = r"
local answers, told = {}, {}
for i = 4, #KEYS do
  local at = 4 + (i - 4) * 5
  local id, lat, lng, ts, iso = unpack(ARGV, at, at + 4)
  local known = redis.call('HMGET', KEYS[i], 'ts', 'status', 'disp')
  local answer = '.'
  if not known[1] then
    answer = '?'
  elseif tonumber(known[1]) > tonumber(ts) then
    answer = '<'
  else
    redis.call('HSET', KEYS[i], 'lat', lat, 'lng', lng, 'ts', ts, 'lastUpdate', iso)
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
    redis.call('ZADD', KEYS[2], ts, id)
    if known[2] == 'ACTIVE' then
      redis.pcall('GEOADD', KEYS[1], lng, lat, id)
      told[#told + 1] = id .. ',' .. lat .. ',' .. lng .. ',' .. ts
    end
    if known[3] and known[3] ~= '' then answer = known[3] end
  end
  answers[#answers + 1] = answer
end
tell(KEYS[3], 'p', told, ';')
local stale = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #stale > 0 then
  redis.call('ZREM', KEYS[1], unpack(stale))
  redis.call('ZREM', KEYS[2], unpack(stale))
end
return answers
";

/// Keys: geo, seen, the driver's hash, feed. Values: id, status, dispatch or empty, now. A driver who becomes free is free since now.
const SET_STATUS: &str = r"
local known = redis.call('HMGET', KEYS[3], 'lat', 'lng', 'ts', 'status')
if not known[3] then return 0 end
redis.call('HSET', KEYS[3], 'status', ARGV[2], 'disp', ARGV[3])
if ARGV[2] == 'ACTIVE' then
  if known[4] ~= 'ACTIVE' then redis.call('HSET', KEYS[3], 'idleSince', ARGV[4]) end
  redis.call('ZADD', KEYS[2], known[3], ARGV[1])
  redis.pcall('GEOADD', KEYS[1], known[2], known[1], ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
tell(KEYS[4], 'd', { ARGV[1] }, ',')
return 1
";

/// Keys: hold, rest, the driver's hash, feed. Values: token, ms, the driver's id. The same token may hold again: a process that died between the
/// reservation and the offer is continued by another.
const HOLD: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  tell(KEYS[4], 'd', { ARGV[3] }, ',')
  return 1
end
if holder or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local status = redis.call('HGET', KEYS[3], 'status')
if status and status ~= 'ACTIVE' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
tell(KEYS[4], 'd', { ARGV[3] }, ',')
return 1
";

/// Keys: hold, feed. Values: token, the driver's id.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
tell(KEYS[2], 'd', { ARGV[2] }, ',')
return 1
";

/// Keys: acceptance, rest, feed. Values: day, 1 where accepted, ms of rest, oldest day kept, ms the counts live, the driver's id. Old days are dropped
/// once there are twice as many fields as a window has.
const OFFER_ENDED: &str = r"
redis.call('HINCRBY', KEYS[1], ARGV[1] .. ':o', 1)
if ARGV[2] == '1' then redis.call('HINCRBY', KEYS[1], ARGV[1] .. ':a', 1) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if redis.call('HLEN', KEYS[1]) > 120 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 8) < ARGV[4] then redis.call('HDEL', KEYS[1], field) end
  end
end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[2], '1', 'PX', ARGV[3]) end
tell(KEYS[3], 'd', { ARGV[6] }, ',')
return 1
";

/// Keys: route, chunks. Values: the point, points of a chunk, ms both live. Answers nothing, or the stored chunks and the
/// tail where the tail has grown by a whole chunk: exactly one of concurrent callers gets it.
const PUSH_ROUTE: &str = r"
local length = redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if length % tonumber(ARGV[2]) ~= 0 then return {} end
local answer = redis.call('LRANGE', KEYS[1], 0, -1)
table.insert(answer, 1, redis.call('GET', KEYS[2]) or '0')
return answer
";
