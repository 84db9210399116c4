-- Keeps what a look at a target found, with its indexes and, when that is news, an event.
-- KEYS[1] the report (a hash with fields state, since, places and document); ARGV[1] the target; ARGV[2] the key of its record;
-- ARGV[3] the state; ARGV[4] when it was looked at; ARGV[5] the places that differ, as JSON; ARGV[6] the finding, as JSON;
-- ARGV[7] the index of all reports; ARGV[8] what precedes a state in the key of its index; ARGV[9] the hash of counts of places;
-- ARGV[10] the stream of events; ARGV[11] its length; ARGV[12] the event, as JSON
-- Answers since when the target is in this state and whether an event was written; nothing is kept when the target is gone. A copy of
-- the call that is sent again after a reconnect finds its own report there: nothing is news then.
if redis.call('EXISTS', ARGV[2]) == 0 then return false end
local target, state = ARGV[1], ARGV[3]
local before = redis.call('HMGET', KEYS[1], 'state', 'since', 'places')
local same = before[1] == state
local since = same and before[2] or ARGV[4]
local places = cjson.decode(ARGV[5])
local news = false
if state == 'drifted' or state == 'unknown' then
  news = not same
  if same and state == 'drifted' then
    local known = {}
    for _, place in ipairs(cjson.decode(before[3])) do known[place] = true end
    for _, place in ipairs(places) do if not known[place] then news = true end end
  end
else
  news = before[1] == 'drifted' or before[1] == 'unknown'
end
redis.call('HSET', KEYS[1], 'state', state, 'since', since, 'places', ARGV[5], 'document', ARGV[6])
if before[1] and not same then redis.call('ZREM', ARGV[8] .. before[1], target) end
redis.call('ZADD', ARGV[7], since, target)
redis.call('ZADD', ARGV[8] .. state, since, target)
if #places > 0 then redis.call('HSET', ARGV[9], target, #places) else redis.call('HDEL', ARGV[9], target) end
if news then redis.call('XADD', ARGV[10], 'MAXLEN', '~', ARGV[11], '*', 'event', ARGV[12]) end
return { since, news and 1 or 0 }
