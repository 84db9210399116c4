-- Takes permits for requests to a CA from a token bucket (GCRA, kept as the time when the bucket is full again). They are taken in line: whoever
-- asks first may use his first, so that no process goes hungry.
-- KEYS[1] a sorted set with the one member `all`, its score the time; ARGV[1] how many; ARGV[2] ms until one comes back; ARGV[3] ms until the empty bucket is full
-- Answers after how many ms they may be used. A copy of this call that is sent again after a reconnect takes as many again, which costs time and breaks no limit.
local count, interval, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local full = tonumber(redis.call('ZSCORE', KEYS[1], 'all') or now)
-- Nobody stands behind a thousand others who take as many: the clock was set meanwhile.
if full < now or full > now + window + 1000 * count * interval then full = now end
full = full + count * interval
redis.call('ZADD', KEYS[1], string.format('%.3f', full), 'all')
redis.call('PEXPIRE', KEYS[1], math.ceil(full - now))
return math.max(0, math.ceil(full - now - window))
