-- A page of a sorted set, highest score first and of one score the last id first: what comes after a row, which need not be there any more.
-- KEYS[1] the sorted set; ARGV[1] how many; ARGV[2] and ARGV[3] score and id of the row, '' for the beginning
-- Answers ids and scores. The beginning is found by halving: thousands may have one score, and no page is to take longer than another.

-- Redis orders ids by their bytes; Lua's own comparison goes by the locale.
local function isBefore(one, other)
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then return a < b end
  end
  return #one < #other
end

local first = 0
if ARGV[3] ~= '' then
  local low = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
  local high = redis.call('ZCOUNT', KEYS[1], ARGV[2], '+inf')
  while low < high do
    local middle = math.floor((low + high) / 2)
    local id = redis.call('ZREVRANGE', KEYS[1], middle, middle)[1]
    if isBefore(id, ARGV[3]) then high = middle else low = middle + 1 end
  end
  first = low
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[1] - 1, 'WITHSCORES')
