//! The Lua scripts. Each is atomic, touches only the keys it is given, and is sent by its hash once the server knows it.

use redis::Script;

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
            put: Script::new(PUT),
            record: Script::new(RECORD),
            set_status: Script::new(SET_STATUS),
            hold: Script::new(HOLD),
            release: Script::new(RELEASE),
            offer_ended: Script::new(OFFER_ENDED),
            push_route: Script::new(PUSH_ROUTE),
        }
    }
}

/// Values of a driver given to [`PUT`].
pub(super) const PUT_VALUES: usize = 11;

/// Keys: geo, seen, one hash for each driver. Values: ms by which the cache must be newer to be believed, ms the hash lives,
/// then [`PUT_VALUES`] for each driver. Answers 1 for each driver that was unknown. A place beyond Redis' projection (85 degrees)
/// is kept but not searched: `pcall`.
const PUT: &str = r"
local answers = {}
for i = 3, #KEYS do
  local at = 3 + (i - 3) * 11
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
end
return answers
";

/// Values of a ping given to [`RECORD`].
pub(super) const RECORD_VALUES: usize = 5;

/// Keys: geo, seen, one hash for each ping. Values: ms before which a driver is stale, stale drivers dropped at most, ms the
/// hash lives, then [`RECORD_VALUES`] for each ping. Answers `?` unknown, `<` outdated, `.` seen, or the dispatch.
const RECORD: &str = r"
local answers = {}
for i = 3, #KEYS do
  local at = 4 + (i - 3) * 5
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
    if known[2] == 'ACTIVE' then redis.pcall('GEOADD', KEYS[1], lng, lat, id) end
    if known[3] and known[3] ~= '' then answer = known[3] end
  end
  answers[#answers + 1] = answer
end
local stale = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #stale > 0 then
  redis.call('ZREM', KEYS[1], unpack(stale))
  redis.call('ZREM', KEYS[2], unpack(stale))
end
return answers
";

/// Keys: geo, seen, the driver's hash. Values: id, status, dispatch or empty, now. A driver who becomes free is free since now.
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
return 1
";

/// Keys: hold, rest, the driver's hash. Values: token, ms. The same token may hold again: a process that died between the
/// reservation and the offer is continued by another.
const HOLD: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if holder or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local status = redis.call('HGET', KEYS[3], 'status')
if status and status ~= 'ACTIVE' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

/// Keys: hold. Values: token.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Keys: acceptance, rest. Values: day, 1 where accepted, ms of rest, oldest day kept, ms the counts live. Old days are dropped
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
