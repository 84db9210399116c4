-- Compare-and-set on a record with a unique name, which may be another one now.
-- KEYS[1] the record (a hash with fields version and write); ARGV[1] the version it must have; ARGV[2] the token of this write;
-- ARGV[3] the hash from name to id; ARGV[4] the name; ARGV[5] the id; ARGV[6] what precedes an id in the key of a record (same hash tag);
-- ARGV[7] the commands, as JSON
-- Answers the id that has the name: the given one if this call, or a re-sent copy of it, did the commands; '' if somebody else was faster.
local current = redis.call('HMGET', KEYS[1], 'version', 'write')
if current[2] == ARGV[2] then return ARGV[5] end
if current[1] ~= ARGV[1] then return '' end
local owner = redis.call('HGET', ARGV[3], ARGV[4])
if owner and owner ~= ARGV[5] and redis.call('EXISTS', ARGV[6] .. owner) == 1 then return owner end
for _, command in ipairs(cjson.decode(ARGV[7])) do redis.call(unpack(command)) end
return ARGV[5]
