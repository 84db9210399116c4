-- Gives back what an order has taken of its CA's budget: for a certificate, with its turns, since it will not have one; or its ACME order alone, which
-- the CA has refused to open.
-- KEYS[1] what the order has taken, as `take-budget.lua` keeps it: the counts have the same hash tag; ARGV[1] 'certificate' or 'order'
-- A copy of this call finds nothing.
local taken, what = redis.call('HGETALL', KEYS[1]), ARGV[1]
local prefix = redis.call('HGET', KEYS[1], 'prefix')
local function uncount(limit, key, interval)
  local counts = prefix .. ':' .. limit
  if redis.call('ZSCORE', counts, key) then redis.call('ZINCRBY', counts, '-' .. interval, key) end
end
for i = 1, #taken, 2 do
  local field, value = taken[i], taken[i + 1]
  local kind, limit, key = string.match(field, '^(%l+) (%S+) (.+)$')
  if kind == 'once' and what == 'order' then
    uncount(limit, key, value)
    redis.call('HDEL', KEYS[1], field)
  elseif kind == 'turn' and what == 'certificate' then
    redis.call('ZREM', prefix .. ':' .. limit .. ':line:' .. key, KEYS[1])
  elseif kind == 'kept' and what == 'certificate' then
    uncount(limit, key, value)
  end
end
-- Its next try is looked at anew, whether it counts for anything or not.
if what == 'order' then redis.call('HDEL', KEYS[1], 'epoch') end
return what == 'certificate' and redis.call('DEL', KEYS[1]) or 0
