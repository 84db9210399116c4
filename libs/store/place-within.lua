-- Places an order of an API key that may have so many unfinished ones.
-- KEYS[1] the unfinished orders of the key; ARGV[1] how many it may have; ARGV[2] the key of the record; ARGV[3] the commands, as JSON;
-- with an idempotency key: ARGV[4] the key (same hash tag), ARGV[5] its value, ARGV[6] its life in ms
-- Answers the value of the idempotency key that counts, as place-once.lua does, '' without one; nothing when there is no room.
if redis.call('EXISTS', ARGV[2]) == 1 then return ARGV[5] or '' end
local existing = ARGV[4] and redis.call('GET', ARGV[4])
if existing then return existing end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[1]) then return false end
if ARGV[4] then redis.call('SET', ARGV[4], ARGV[5], 'PX', ARGV[6]) end
for _, command in ipairs(cjson.decode(ARGV[3])) do redis.call(unpack(command)) end
return ARGV[5] or ''
