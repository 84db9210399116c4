-- Gives back what an order has taken of its CA's budget for a certificate, and its turns, since it will not have one.
-- KEYS[1] what the order has taken, as `take-budget.lua` keeps it: the counts have the same hash tag. A copy of this call finds nothing.
local taken = redis.call('HGETALL', KEYS[1])
local prefix = redis.call('HGET', KEYS[1], 'prefix')
for i = 1, #taken, 2 do
  local field, line = string.gsub(taken[i], '^turn ', '')
  local limit, key = string.match(field, '^(%S+) (.+)$')
  if limit then
    local counts = prefix .. ':' .. limit
    if line > 0 then
      redis.call('ZREM', counts .. ':line:' .. key, KEYS[1])
    elseif redis.call('ZSCORE', counts, key) then
      redis.call('ZINCRBY', counts, '-' .. taken[i + 1], key)
    end
  end
end
return redis.call('DEL', KEYS[1])
