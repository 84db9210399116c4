-- Compare-and-set on one record, with everything that must change with it.
-- KEYS[1] the record (a hash with fields version and write)
-- ARGV[1] the version it must have, '' if it must not exist; ARGV[2] the token of this write; ARGV[3] the commands, as JSON
-- 1 = done (also when this very write was done before: ioredis re-sends after a reconnect), 0 = somebody else was faster.
local current = redis.call('HMGET', KEYS[1], 'version', 'write')
if current[2] == ARGV[2] then return 1 end
if (current[1] or '') ~= ARGV[1] then return 0 end
for _, command in ipairs(cjson.decode(ARGV[3])) do redis.call(unpack(command)) end
return 1
