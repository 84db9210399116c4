-- Lets nobody take a claim for a time, and tells of it, unless it is held that long already.
-- KEYS[1] the holds of the CA, as `take-budget.lua` reads them; KEYS[2] a sorted set of the limits that are held, by their end; KEYS[3] the stream of events
-- ARGV[1] the claim; ARGV[2] now; ARGV[3] until; ARGV[4] the words of the CA; ARGV[5] the life of what is kept, ms; ARGV[6] the limit and its CA; ARGV[7] the event; ARGV[8] how many are kept
local now, till = tonumber(ARGV[2]), tonumber(ARGV[3])
local hold = redis.call('HGET', KEYS[1], ARGV[1])
local held = hold and tonumber(string.match(hold, '^%d+')) or 0
-- One that is further away than anything waits is of a clock that was set meanwhile.
if held >= till and held <= now + tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[8], '*', 'event', ARGV[7])
return 1
