-- REGISTER: a process says that it is there and what it is doing; without fields, that it has ended.
-- KEYS: workers, worker:<name>.  ARGV: name, ms after which it is forgotten unless it says more, then
-- fields and values. Answers 1, or 0 at the end. Names not heard of for an hour are dropped.
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', ms - 3600000))
redis.call('DEL', KEYS[2])
if #ARGV == 2 then
    redis.call('ZREM', KEYS[1], ARGV[1])
    return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', ms), ARGV[1])
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
