//! The Lua scripts. Each is atomic, uses only the keys it is given, and is sent by its hash once the server knows it.
//!
//! Every change that can affect a search is also published to the change feed, which the indexes of all processes
//! follow. Keys of another type, and values that no script writes, are deleted where a script meets them: one of them
//! must not fail the call for all other drivers in it, and nothing else would ever repair it. Each script answers a
//! list whose last element names the keys it has repaired; [`RECORD`] has them second.
//!
//! A feed entry is `p` with pings of free drivers as `id,lat,lng,ms` separated by `;`, or `d` with the ids,
//! separated by `,`, of drivers to be read again.

use dispatch_core::geo::EARTH_RADIUS_M;
use dispatch_core::ping_filter;
use redis::Script;

use crate::adapters::fleet::AHEAD_MAX_MS;

/// How long the feed is kept, s: one and a half times the longest lag of an index before it is rebuilt. At 12,500 pings
/// a second that is about 10 MB.
const FEED_S: u32 = 15;

/// `safe(command, key, ...)` is `redis.call` for a key that is deleted first if it has another type. `wrong` does
/// the same for an answer of `redis.pcall`, and says whether the call must be repeated. Other errors are raised.
const SAFE: &str = r"
local repairs = {}
local function wrong(key, answer)
  if type(answer) ~= 'table' or not answer.err or not string.find(answer.err, 'WRONGTYPE', 1, true) then return false end
  redis.call('DEL', key)
  repairs[#repairs + 1] = key
  return true
end
local function safe(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    wrong(key, answer)
    return redis.call(command, key, ...)
  end
  return answer
end
local function repaired() return table.concat(repairs, ',') end
";

/// Appends to the feed and drops old entries. `publish(key, kind, parts, separator)`.
const TELL: &str = r"
local function publish(key, kind, parts, separator)
  if #parts == 0 then return end
  local oldest = (redis.call('TIME')[1] - FEED_S) * 1000
  safe('XADD', key, 'MINID', '~', string.format('%.0f', oldest), '*', kind, table.concat(parts, separator))
end
";

/// The latest time, ms, that a ping can have: the server's own time, and how far clocks of workers may be ahead of it.
/// A later one was written by a clock that was wrong, and would exclude all pings until that time. `moment` reads a
/// stored time, and is nil for one that no worker can have written.
const LATEST: &str = r"
local function latest_ms() return redis.call('TIME')[1] * 1000 + AHEAD_MAX_MS end
local function moment(text, latest)
  local ms = tonumber(text or '')
  if ms and ms >= 0 and ms <= latest then return ms end
  return nil
end
";

/// Whether a driver is hidden from searches: the `doubt` field begins with the number of strikes.
const HIDDEN: &str = r"
local function hidden(doubt) return doubt and (tonumber(string.sub(doubt, 1, 1)) or 0) >= STRIKES_HIDDEN end
";

/// A script with the functions [`SAFE`], [`TELL`], [`LATEST`] and [`HIDDEN`] and with the constants of the ping filter.
fn telling(body: &str) -> Script {
    let mut text = format!("{SAFE}{TELL}{LATEST}{HIDDEN}{body}");
    for (name, value) in [
        ("FEED_S", f64::from(FEED_S)),
        ("STRIKES_HIDDEN", f64::from(ping_filter::STRIKES_HIDDEN)),
        ("STRIKES_OUT", f64::from(ping_filter::STRIKES_OUT)),
        ("SEQUENCE_BELIEVED", f64::from(ping_filter::SEQUENCE_BELIEVED)),
        ("APART_MAX_M", ping_filter::APART_MAX_M),
        ("SPEED_MAX_M_PER_S", ping_filter::SPEED_MAX_M_PER_S),
        ("TIME_ERROR_MS", ping_filter::TIME_ERROR_MS as f64),
        ("CLOCK_SET_AFTER_MS", ping_filter::CLOCK_SET_AFTER_MS as f64),
        ("AHEAD_MAX_MS", AHEAD_MAX_MS as f64),
        ("EARTH_DIAMETER_M", 2.0 * EARTH_RADIUS_M),
    ] {
        text = text.replace(name, &value.to_string());
    }
    Script::new(&text)
}

pub(super) struct Scripts {
    pub put: Script,
    pub record: Script,
    pub set_status: Script,
    pub hold: Script,
    pub release: Script,
    pub offer_ended: Script,
    pub push_route: Script,
    pub trim_route: Script,
    pub repair: Script,
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
            push_route: telling(PUSH_ROUTE),
            trim_route: telling(TRIM_ROUTE),
            repair: telling(REPAIR),
        }
    }
}

/// Values per driver of [`PUT`].
pub(super) const PUT_VALUES: usize = 11;

/// Keys: geo, seen, feed, one hash per driver. Values: ms by which the cache must be newer to take precedence, ms the
/// hash lives, then [`PUT_VALUES`] per driver. Answers 1 for each driver that was unknown. A place beyond the
/// projection of Redis (85 degrees) is stored but not searched: `pcall`. `activeSince` is set when a driver becomes
/// active here. A place from the table has no phone time; one
/// with an impossible time has the oldest, so that the next ping counts. A doubted driver stays hidden until its pings
/// are believed again.
const PUT: &str = r"
local answers, changes, latest = {}, {}, latest_ms()
local now = string.format('%.0f', latest - AHEAD_MAX_MS)
for i = 4, #KEYS do
  local at = 3 + (i - 4) * 11
  local id, lat, lng, ts, iso, status, disp = unpack(ARGV, at, at + 6)
  if not moment(ts, latest) then ts = '0' end
  local known = safe('HMGET', KEYS[i], 'ts', 'status', 'idleSince', 'doubt', 'activeSince')
  local known_ts = moment(known[1], latest)
  redis.call('HSET', KEYS[i], 'maxD', ARGV[at + 7], 'auto', ARGV[at + 8], 'minFare', ARGV[at + 9], 'regions', ARGV[at + 10])
  if not (known_ts and known_ts > tonumber(ts) + tonumber(ARGV[1])) then
    local idle = ts
    if known[2] == 'ACTIVE' and tonumber(known[3] or '') then idle = known[3] end
    if status == 'ACTIVE' and not (known[2] == 'ACTIVE' and moment(known[5], latest)) then
      redis.call('HSET', KEYS[i], 'activeSince', now)
    end
    redis.call('HSET', KEYS[i], 'lat', lat, 'lng', lng, 'ts', ts, 'phone', '', 'lastUpdate', iso, 'status', status, 'disp', disp,
      'idleSince', idle)
    safe('ZADD', KEYS[2], ts, id)
    if status == 'ACTIVE' and not hidden(known[4]) then
      if wrong(KEYS[1], redis.pcall('GEOADD', KEYS[1], lng, lat, id)) then
        redis.pcall('GEOADD', KEYS[1], lng, lat, id)
      end
    else
      safe('ZREM', KEYS[1], id)
    end
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
  answers[#answers + 1] = known_ts and 0 or 1
  changes[#changes + 1] = id
end
publish(KEYS[3], 'd', changes, ',')
return { answers, repaired() }
";

/// Keys: geo, seen, feed, one hash per ping. Values: ms before which a driver is stale, most stale drivers to drop, ms
/// the hash lives, length of the hash's key before the id, number of whole seconds that follow; per second, the second
/// and its ISO 8601 text; per ping `lat`, `lng`, ms, phone ms or empty. Answers a text with one letter per ping (`?`
/// unknown, `<` outdated, `!` implausible, `.` seen, `@` on a dispatch), the repaired keys, then the dispatches.
///
/// This implements `dispatch_core::ping_filter::Track::after` where the track is stored: with two replicas, a decision
/// elsewhere would race. A test compares both. `doubt` is the last doubted ping as `strikes sequence lat lng ms phone`;
/// the field is absent without doubt, so a plausible ping costs two sines. Positions, times and feed entries of all
/// pings are written with one command each. The hash's expiry is extended once an hour.
const RECORD: &str = r"
local call, number, floor, sin, cos, rad = redis.call, tonumber, math.floor, math.sin, math.cos, math.rad
local function ms_between(ts, phone, next_ts, next_phone)
  if phone and next_phone and next_phone >= phone then return next_phone - phone end
  if next_ts > ts then return next_ts - ts end
  return 0
end
local function follows(lat, lng, next_lat, next_lng, ms)
  if not lat or not lng or lat == next_lat and lng == next_lng then return true end
  local north, next_north = rad(lat), rad(next_lat)
  local half_north, half_east = sin((next_north - north) / 2), sin(rad(next_lng - lng) / 2)
  local a = half_north * half_north + cos(north) * cos(next_north) * half_east * half_east
  return EARTH_DIAMETER_M * math.asin(math.sqrt(math.min(a, 1))) <= APART_MAX_M + SPEED_MAX_M_PER_S * (ms + TIME_ERROR_MS) / 1000
end
local geo, seen, changes, again, hide, answers, rides = {}, {}, {}, {}, {}, {}, {}
local latest = latest_ms()
local written = {}
local at = 6
for _ = 1, number(ARGV[5]) do
  written[number(ARGV[at])] = ARGV[at + 1]
  at = at + 2
end
for i = 4, #KEYS do
  local key, lat, lng, ts, phone = KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local known = safe('HMGET', key, 'lat', 'lng', 'ts', 'phone', 'status', 'disp', 'doubt')
  local answer = '?'
  local known_ms = moment(known[3], latest)
  if known[3] and not known_ms then
    call('HDEL', key, 'ts', 'phone', 'doubt')
    repairs[#repairs + 1] = key
    known_ms = nil
  end
  if known_ms then
    local ms = number(ts)
    local iso = written[floor(ms / 1000)]
    if ms > latest then
      ms = latest - AHEAD_MAX_MS
      ts = string.format('%.0f', ms)
    end
    local known_phone, phone_ms = number(known[4] or ''), number(phone)
    local is_before
    if known_phone and phone_ms then
      is_before = phone_ms < known_phone and ms - known_ms < CLOCK_SET_AFTER_MS
    else
      is_before = ms < known_ms
    end
    if is_before then
      answer = '<'
    else
      local doubt, strikes, sequence = known[7], 0, 1
      local to_lat, to_lng = number(lat), number(lng)
      if doubt then
        local s, n, d_lat, d_lng, d_ts, d_phone = string.match(doubt, '(%d) (%d) (%S+) (%S+) (%d+) (%S+)')
        if s then
          strikes = number(s)
          local since = ms_between(number(d_ts), number(d_phone), ms, phone_ms)
          if follows(number(d_lat), number(d_lng), to_lat, to_lng, since) then sequence = n + 1 end
        end
      end
      local fits = strikes < STRIKES_OUT
        and follows(number(known[1]), number(known[2]), to_lat, to_lng, ms_between(known_ms, known_phone, ms, phone_ms))
      local id = string.sub(key, ARGV[4] + 1)
      if fits or sequence >= SEQUENCE_BELIEVED then
        answer = '.'
        if ms >= known_ms then
          call('HSET', key, 'lat', lat, 'lng', lng, 'ts', ts, 'phone', phone, 'lastUpdate', iso)
          if floor(ms / 3600000) ~= floor(known_ms / 3600000) then call('PEXPIRE', key, ARGV[3]) end
        else
          call('HSET', key, 'lat', lat, 'lng', lng, 'phone', phone)
          ts = string.format('%.0f', known_ms)
        end
        if doubt then
          call('HDEL', key, 'doubt')
          if hidden(doubt) then again[#again + 1] = id end
          hide[id] = nil
        end
        seen[#seen + 1] = ts
        seen[#seen + 1] = id
        if known[5] == 'ACTIVE' then
          if math.abs(to_lat) <= 85.05 then
            local n = #geo
            geo[n + 1], geo[n + 2], geo[n + 3] = lng, lat, id
          end
          changes[#changes + 1] = id .. ',' .. lat .. ',' .. lng .. ',' .. ts
        end
        if known[6] and known[6] ~= '' then
          answer = '@'
          rides[#rides + 1] = known[6]
        end
      else
        answer = '!'
        strikes = math.min(strikes + 1, STRIKES_OUT)
        local last = lat .. ' ' .. lng .. ' ' .. ts .. ' ' .. (phone == '' and '-' or phone)
        call('HSET', key, 'doubt', strikes .. ' ' .. sequence .. ' ' .. last)
        if strikes >= STRIKES_HIDDEN and not hidden(doubt) then
          hide[id] = true
          again[#again + 1] = id
        end
      end
    end
  end
  answers[#answers + 1] = answer
end
if #seen > 0 then safe('ZADD', KEYS[2], unpack(seen)) end
if #geo > 0 then safe('GEOADD', KEYS[1], unpack(geo)) end
for id in pairs(hide) do
  safe('ZREM', KEYS[1], id)
end
publish(KEYS[3], 'p', changes, ';')
publish(KEYS[3], 'd', again, ',')
for _, range in ipairs({ { '-inf', '(' .. ARGV[1] }, { '(' .. string.format('%.0f', latest), '+inf' } }) do
  local stale = safe('ZRANGEBYSCORE', KEYS[2], range[1], range[2], 'LIMIT', 0, ARGV[2])
  if #stale > 0 then
    safe('ZREM', KEYS[1], unpack(stale))
    call('ZREM', KEYS[2], unpack(stale))
  end
end
return { table.concat(answers), repaired(), unpack(rides) }
";

/// Keys: geo, seen, the driver's hash, feed. Values: id, status, dispatch or empty, now. A driver who becomes free has
/// been idle since now.
const SET_STATUS: &str = r"
local known = safe('HMGET', KEYS[3], 'lat', 'lng', 'ts', 'status', 'doubt')
local latest = latest_ms()
local known_ms = moment(known[3], latest)
if not known_ms then return { 0, repaired() } end
redis.call('HSET', KEYS[3], 'status', ARGV[2], 'disp', ARGV[3])
if ARGV[2] == 'ACTIVE' then
  if known[4] ~= 'ACTIVE' then
    redis.call('HSET', KEYS[3], 'idleSince', ARGV[4], 'activeSince', string.format('%.0f', latest - AHEAD_MAX_MS))
  end
  safe('ZADD', KEYS[2], string.format('%.0f', known_ms), ARGV[1])
  if not hidden(known[5]) and known[1] and known[2] then
    if wrong(KEYS[1], redis.pcall('GEOADD', KEYS[1], known[2], known[1], ARGV[1])) then
      redis.pcall('GEOADD', KEYS[1], known[2], known[1], ARGV[1])
    end
  end
else
  safe('ZREM', KEYS[1], ARGV[1])
end
publish(KEYS[4], 'd', { ARGV[1] }, ',')
return { 1, repaired() }
";

/// Keys: hold, rest, the driver's hash, feed. Values: token, ms, the driver's id. The same token may hold again: if a
/// process dies between the reservation and the offer, another one continues. A repeated hold never shortens the first:
/// a replayed stream record requests a short hold for a driver whose offer is already live. A hold or cooldown without
/// an expiry is none of ours and would never end.
const HOLD: &str = r"
local function lease(key)
  local value = safe('GET', key)
  if value and redis.call('PTTL', key) == -1 then
    redis.call('DEL', key)
    repairs[#repairs + 1] = key
    value = false
  end
  return value
end
local holder = lease(KEYS[1])
if holder == ARGV[1] then
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  publish(KEYS[4], 'd', { ARGV[3] }, ',')
  return { 1, repaired() }
end
if holder or lease(KEYS[2]) then return { 0, repaired() } end
local known = safe('HMGET', KEYS[3], 'status', 'doubt')
if known[1] and known[1] ~= 'ACTIVE' or hidden(known[2]) then return { 0, repaired() } end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
publish(KEYS[4], 'd', { ARGV[3] }, ',')
return { 1, repaired() }
";

/// Keys: hold, feed. Values: token, the driver's id.
const RELEASE: &str = r"
if safe('GET', KEYS[1]) ~= ARGV[1] then return { 0, repaired() } end
redis.call('DEL', KEYS[1])
publish(KEYS[2], 'd', { ARGV[2] }, ',')
return { 1, repaired() }
";

/// Keys: acceptance, rest, feed. Values: day, 1 if accepted, ms of cooldown, oldest day to keep, ms the counts live,
/// the driver's id, 1 if unanswered, unanswered offers at which their count starts again, or 0. Answers the number of
/// unanswered offers since the last answer. Old days are dropped once there are twice as many fields as a window has.
const OFFER_ENDED: &str = r"
safe('HLEN', KEYS[1])
local function count(field)
  local counted = redis.pcall('HINCRBY', KEYS[1], field, 1)
  if type(counted) == 'table' and counted.err then
    redis.call('HSET', KEYS[1], field, 1)
    repairs[#repairs + 1] = KEYS[1]
  end
end
count(ARGV[1] .. ':o')
if ARGV[2] == '1' then count(ARGV[1] .. ':a') end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if redis.call('HLEN', KEYS[1]) > 120 then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 8) < ARGV[4] then redis.call('HDEL', KEYS[1], field) end
  end
end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[2], '1', 'PX', ARGV[3]) end
publish(KEYS[3], 'd', { ARGV[6] }, ',')
local unanswered = 0
if ARGV[7] == '1' then
  count('unanswered')
  unanswered = tonumber(redis.call('HGET', KEYS[1], 'unanswered')) or 0
end
local limit = tonumber(ARGV[8])
if ARGV[7] ~= '1' or limit > 0 and unanswered >= limit then redis.call('HDEL', KEYS[1], 'unanswered') end
return { unanswered, repaired() }
";

/// Keys: route and chunks of each point. Values: points per chunk, ms both live, the points. For each tail that has
/// grown by a whole chunk, answers the index of the point that completed it, and the number of stored chunks followed
/// by the tail. Exactly one of concurrent callers gets it. The route's expiry is extended with each chunk.
const PUSH_ROUTE: &str = r"
local answers = {}
for i = 1, #KEYS / 2 do
  local route, chunks = KEYS[2 * i - 1], KEYS[2 * i]
  local length = safe('RPUSH', route, ARGV[i + 2])
  local whole = length % tonumber(ARGV[1]) == 0
  if whole or length == 1 then redis.call('PEXPIRE', route, ARGV[2]) end
  if whole then
    local tail = redis.call('LRANGE', route, 0, -1)
    table.insert(tail, 1, safe('GET', chunks) or '0')
    answers[#answers + 1] = { i - 1, tail }
  end
end
return { answers, repaired() }
";

/// Keys: route, chunks. Values: the chunk's number, its points, ms the count lives. A chunk is counted and dropped
/// once, because two callers may have stored the same one. A count that cannot be read is replaced.
const TRIM_ROUTE: &str = r"
local stored = tonumber(safe('GET', KEYS[2]) or '0')
if stored and stored + 1 ~= tonumber(ARGV[1]) then return { 0, repaired() } end
safe('LTRIM', KEYS[1], ARGV[2], -1)
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return { 1, repaired() }
";

/// Keys: any. Values: expected type of each, and for a string that must expire `1`. Deletes the keys of
/// another type, and strings without their expiry.
const REPAIR: &str = r"
for i, key in ipairs(KEYS) do
  local expected, expires = ARGV[2 * i - 1], ARGV[2 * i]
  local found = redis.call('TYPE', key).ok
  local is_wrong = found ~= 'none' and found ~= expected
  if is_wrong or expires == '1' and redis.call('PTTL', key) == -1 then
    redis.call('DEL', key)
    repairs[#repairs + 1] = key
  end
end
return { 1, repaired() }
";
