-- Does the commands the first time a key is seen, never again while it lives.
-- KEYS[1] the key; ARGV[1] its value; ARGV[2] its life in ms; ARGV[3] the commands, as JSON
-- Answers the value that counts: the given one if this call, or a re-sent copy of it, was the first.
local existing = redis.call('GET', KEYS[1])
if existing then return existing end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for _, command in ipairs(cjson.decode(ARGV[3])) do redis.call(unpack(command)) end
return ARGV[1]
