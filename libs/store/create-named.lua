-- Stores a record under a unique name, unless another record has the name.
-- KEYS[1] the hash from name to id; ARGV[1] the name; ARGV[2] the id; ARGV[3] what precedes an id in the key of a record (same hash tag);
-- ARGV[4] the commands, as JSON
-- Answers the id that has the name: the given one if this call, or a re-sent copy of it, stored the record.
local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner and redis.call('EXISTS', ARGV[3] .. owner) == 1 then return owner end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for _, command in ipairs(cjson.decode(ARGV[4])) do redis.call(unpack(command)) end
return ARGV[2]
