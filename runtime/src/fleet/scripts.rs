//! The Lua scripts. Each is atomic, uses only the keys it is given, and is sent by its hash once the server knows it.
//!
//! Every change that can affect a search is also published to the change feed, which the indexes of all processes
//! follow. A feed entry is `p` with pings of free drivers as `id,lat,lng,ms` separated by `;`, or `d` with the ids,
//! separated by `,`, of drivers to be read again.

use dispatch_core::geo::EARTH_RADIUS_M;
use dispatch_core::ping_filter;
use redis::Script;

/// How long the feed is kept, s: one and a half times the longest lag of an index before it is rebuilt. At 12,500 pings
/// a second that is about 10 MB.
const FEED_S: u32 = 15;

/// Appends to the feed and drops old entries. `publish(key, kind, parts, separator)`.
const TELL: &str = r"
local function publish(key, kind, parts, separator)
  if #parts == 0 then return end
  local oldest = (redis.call('TIME')[1] - FEED_S) * 1000
  redis.call('XADD', key, 'MINID', '~', string.format('%.0f', oldest), '*', kind, table.concat(parts, separator))
end
";

/// Whether a driver is hidden from searches: the `doubt` field begins with the number of strikes.
const HIDDEN: &str = r"
local function hidden(doubt) return doubt and (tonumber(string.sub(doubt, 1, 1)) or 0) >= STRIKES_HIDDEN end
";

/// A script with the functions [`TELL`] and [`HIDDEN`] and with the constants of the ping filter.
fn telling(body: &str) -> Script {
    let mut text = format!("{TELL}{HIDDEN}{body}");
    for (name, value) in [
        ("FEED_S", f64::from(FEED_S)),
        ("STRIKES_HIDDEN", f64::from(ping_filter::STRIKES_HIDDEN)),
        ("STRIKES_OUT", f64::from(ping_filter::STRIKES_OUT)),
        ("SEQUENCE_BELIEVED", f64::from(ping_filter::SEQUENCE_BELIEVED)),
        ("APART_MAX_M", ping_filter::APART_MAX_M),
        ("SPEED_MAX_M_PER_S", ping_filter::SPEED_MAX_M_PER_S),
        ("TIME_ERROR_MS", ping_filter::TIME_ERROR_MS as f64),
        ("CLOCK_SET_AFTER_MS", ping_filter::CLOCK_SET_AFTER_MS as f64),
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
            trim_route: Script::new(TRIM_ROUTE),
        }
    }
}

/// Values per driver of [`PUT`].
pub(super) const PUT_VALUES: usize = 11;

/// Keys: geo, seen, feed, one hash per driver. Values: ms by which the cache must be newer to take precedence, ms the
/// hash lives, then [`PUT_VALUES`] per driver. Answers 1 for each driver that was unknown. A place beyond the
/// projection of Redis (85 degrees) is stored but not searched: `pcall`. A place from the table has no phone time. A
/// doubted driver stays hidden until its pings are believed again.
const PUT: &str = r"
local answers, changes = {}, {}
for i = 4, #KEYS do
  local at = 3 + (i - 4) * 11
  local id, lat, lng, ts, iso, status, disp = unpack(ARGV, at, at + 6)
  local known = redis.call('HMGET', KEYS[i], 'ts', 'status', 'idleSince', 'doubt')
  redis.call('HSET', KEYS[i], 'maxD', ARGV[at + 7], 'auto', ARGV[at + 8], 'minFare', ARGV[at + 9], 'regions', ARGV[at + 10])
  if not (known[1] and tonumber(known[1]) > tonumber(ts) + tonumber(ARGV[1])) then
    local idle = ts
    if known[2] == 'ACTIVE' and known[3] then idle = known[3] end
    redis.call('HSET', KEYS[i], 'lat', lat, 'lng', lng, 'ts', ts, 'phone', '', 'lastUpdate', iso, 'status', status, 'disp', disp,
      'idleSince', idle)
    redis.call('ZADD', KEYS[2], ts, id)
    if status == 'ACTIVE' and not hidden(known[4]) then
      redis.pcall('GEOADD', KEYS[1], lng, lat, id)
    else
      redis.call('ZREM', KEYS[1], id)
    end
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
  answers[#answers + 1] = known[1] and 0 or 1
  changes[#changes + 1] = id
end
publish(KEYS[3], 'd', changes, ',')
return answers
";

/// Keys: geo, seen, feed, one hash per ping. Values: ms before which a driver is stale, most stale drivers to drop, ms
/// the hash lives, length of the hash's key before the id, number of whole seconds that follow; per second, the second
/// and its ISO 8601 text; per ping `lat`, `lng`, ms, phone ms or empty. Answers a text with one letter per ping (`?`
/// unknown, `<` outdated, `!` implausible, `.` seen, `@` on a dispatch), then the dispatches.
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
local written = {}
local at = 6
for _ = 1, number(ARGV[5]) do
  written[number(ARGV[at])] = ARGV[at + 1]
  at = at + 2
end
for i = 4, #KEYS do
  local key, lat, lng, ts, phone = KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local known = call('HMGET', key, 'lat', 'lng', 'ts', 'phone', 'status', 'disp', 'doubt')
  local answer = '?'
  local known_ms = number(known[3] or '')
  if known_ms then
    local ms = number(ts)
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
          call('HSET', key, 'lat', lat, 'lng', lng, 'ts', ts, 'phone', phone, 'lastUpdate', written[floor(ms / 1000)])
          if floor(ms / 3600000) ~= floor(known_ms / 3600000) then call('PEXPIRE', key, ARGV[3]) end
        else
          call('HSET', key, 'lat', lat, 'lng', lng, 'phone', phone)
          ts = known[3]
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
if #seen > 0 then call('ZADD', KEYS[2], unpack(seen)) end
if #geo > 0 then call('GEOADD', KEYS[1], unpack(geo)) end
for id in pairs(hide) do
  call('ZREM', KEYS[1], id)
end
publish(KEYS[3], 'p', changes, ';')
publish(KEYS[3], 'd', again, ',')
local stale = call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #stale > 0 then
  call('ZREM', KEYS[1], unpack(stale))
  call('ZREM', KEYS[2], unpack(stale))
end
return { table.concat(answers), unpack(rides) }
";

/// Keys: geo, seen, the driver's hash, feed. Values: id, status, dispatch or empty, now. A driver who becomes free has
/// been idle since now.
const SET_STATUS: &str = r"
local known = redis.call('HMGET', KEYS[3], 'lat', 'lng', 'ts', 'status', 'doubt')
if not known[3] then return 0 end
redis.call('HSET', KEYS[3], 'status', ARGV[2], 'disp', ARGV[3])
if ARGV[2] == 'ACTIVE' then
  if known[4] ~= 'ACTIVE' then redis.call('HSET', KEYS[3], 'idleSince', ARGV[4]) end
  redis.call('ZADD', KEYS[2], known[3], ARGV[1])
  if not hidden(known[5]) then redis.pcall('GEOADD', KEYS[1], known[2], known[1], ARGV[1]) end
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
publish(KEYS[4], 'd', { ARGV[1] }, ',')
return 1
";

/// Keys: hold, rest, the driver's hash, feed. Values: token, ms, the driver's id. The same token may hold again: if a
/// process dies between the reservation and the offer, another one continues. A repeated hold never shortens the first:
/// a replayed stream record requests a short hold for a driver whose offer is already live.
const HOLD: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  publish(KEYS[4], 'd', { ARGV[3] }, ',')
  return 1
end
if holder or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local known = redis.call('HMGET', KEYS[3], 'status', 'doubt')
if known[1] and known[1] ~= 'ACTIVE' or hidden(known[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
publish(KEYS[4], 'd', { ARGV[3] }, ',')
return 1
";

/// Keys: hold, feed. Values: token, the driver's id.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
publish(KEYS[2], 'd', { ARGV[2] }, ',')
return 1
";

/// Keys: acceptance, rest, feed. Values: day, 1 if accepted, ms of cooldown, oldest day to keep, ms the counts live,
/// the driver's id. Old days are dropped once there are twice as many fields as a window has.
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
publish(KEYS[3], 'd', { ARGV[6] }, ',')
return 1
";

/// Keys: route and chunks of each point. Values: points per chunk, ms both live, the points. For each tail that has
/// grown by a whole chunk, answers the index of the point that completed it, and the number of stored chunks followed
/// by the tail. Exactly one of concurrent callers gets it. The route's expiry is extended with each chunk.
const PUSH_ROUTE: &str = r"
local answers = {}
for i = 1, #KEYS / 2 do
  local route, chunks = KEYS[2 * i - 1], KEYS[2 * i]
  local length = redis.call('RPUSH', route, ARGV[i + 2])
  local whole = length % tonumber(ARGV[1]) == 0
  if whole or length == 1 then redis.call('PEXPIRE', route, ARGV[2]) end
  if whole then
    local tail = redis.call('LRANGE', route, 0, -1)
    table.insert(tail, 1, redis.call('GET', chunks) or '0')
    answers[#answers + 1] = { i - 1, tail }
  end
end
return answers
";

/// Keys: route, chunks. Values: the chunk's number, its points, ms the count lives. A chunk is counted and dropped
/// once, because two callers may have stored the same one.
const TRIM_ROUTE: &str = r"
if tonumber(redis.call('GET', KEYS[2]) or '0') + 1 ~= tonumber(ARGV[1]) then return 0 end
redis.call('LTRIM', KEYS[1], ARGV[2], -1)
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 1
";
