-- Takes all that a new ACME order counts for at its CA, or nothing: a token bucket for each claim (GCRA, as Boulder has it), kept as the time
-- when the bucket is full again. An order that has to wait gets a turn: those behind it in line wait longer, so that each wakes once.
-- KEYS[1] what the order has taken: a hash of `epoch`, `prefix`, `kept <claim>` for what counts once however many ACME orders it takes, `once <claim>`
-- for what counts with each (both with their interval), and `turn <claim>`
-- ARGV[1] what precedes the names of this CA's counts (same hash tag): `:<limit>`, a sorted set from key to time, `:<limit>:line:<interval>:<key>`, one of
-- those who have a turn by their time, and `:holds`, a hash from claim to `<until> <words of the CA>`; ARGV[2] now; ARGV[3] the epoch;
-- ARGV[4] the latest turn that is worth it; ARGV[5] the life of what has none of its own, ms; ARGV[6] the claims, as JSON: limit, key and, where there is a rate, interval and window;
-- `takes` says that the order counts, `keeps` that what it took in an earlier epoch still holds; ARGV[7] '1' only to look
-- Answers nothing when all is taken, also by an earlier run or a copy of this call that is sent again after a reconnect; else the claim to wait
-- for (from 1), until when, and the words of the CA if it has said so itself.
local receipt, prefix, now, epoch = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local latest, life, claims, look = tonumber(ARGV[4]), ARGV[5], cjson.decode(ARGV[6]), ARGV[7] == '1'
local function plain(number) return string.format('%.3f', number) end
-- A time that was noted; nil when it is further away than anything waits: the clock was set meanwhile.
local function soon(time)
  local number = time and tonumber(time)
  return number and number <= now + tonumber(life) and number or nil
end
if not look and redis.call('HGET', receipt, 'epoch') == epoch then return {} end

local at, worst, words, first = now, 0, '', false
for i, claim in ipairs(claims) do
  local id, counts = claim.limit .. ' ' .. claim.key, prefix .. ':' .. claim.limit
  local free, said, turn = now, '', nil
  if claim.interval and not (claim.keeps and redis.call('HEXISTS', receipt, 'kept ' .. id) == 1) then
    -- No bucket takes longer to fill than its window, unless the rate was changed or the clock was set.
    claim.tat = math.max(now, tonumber(redis.call('ZSCORE', counts, claim.key) or now))
    if claim.tat > now + claim.window then
      claim.tat = now + claim.window
      if not look then redis.call('ZADD', counts, plain(claim.tat), claim.key) end
    end
    -- With another rate nobody keeps a place in the line of the old one.
    claim.place = plain(claim.interval) .. ':' .. claim.key
    free = math.max(free, claim.tat + claim.interval - claim.window)
    turn = soon(redis.call('HGET', receipt, 'turn ' .. claim.limit .. ' ' .. claim.place))
    local last = claim.takes and not turn and soon(redis.call('ZREVRANGE', counts .. ':line:' .. claim.place, 0, 0, 'WITHSCORES')[2])
    if last and last > now then free = math.max(free, last + claim.interval) end
    free = math.max(free, turn or now)
  end
  local hold = redis.call('HGET', prefix .. ':holds', id)
  local held = hold and soon(string.match(hold, '^%d+')) or now
  if held > now then free, said = math.max(free, held), string.sub(hold, string.find(hold, ' ') + 1) end
  if free > at then at, worst, words, first = free, i, said, claim.tat and claim.takes and not turn end
end

if worst > 0 then
  at = math.ceil(at)
  if not look and first and at <= latest then
    local claim = claims[worst]
    local line = prefix .. ':' .. claim.limit .. ':line:' .. claim.place
    redis.call('ZREMRANGEBYSCORE', line, '-inf', now)
    redis.call('ZADD', line, at, receipt)
    redis.call('PEXPIRE', line, life)
    redis.call('HSET', receipt, 'turn ' .. claim.limit .. ' ' .. claim.place, at, 'prefix', prefix)
    redis.call('PEXPIRE', receipt, life)
  end
  return { worst, at, words }
end
if look then return {} end

for _, claim in ipairs(claims) do
  local id, counts = claim.limit .. ' ' .. claim.key, prefix .. ':' .. claim.limit
  if claim.tat and claim.takes then
    redis.call('ZREMRANGEBYSCORE', counts, '-inf', now)
    redis.call('ZADD', counts, plain(claim.tat + claim.interval), claim.key)
    redis.call('PEXPIRE', counts, math.ceil(claim.window))
    redis.call('HSET', receipt, (claim.keeps and 'kept ' or 'once ') .. id, plain(claim.interval))
  end
  if claim.place then redis.call('HDEL', receipt, 'turn ' .. claim.limit .. ' ' .. claim.place) end
end
redis.call('HSET', receipt, 'epoch', epoch, 'prefix', prefix)
redis.call('PEXPIRE', receipt, life)
return {}
