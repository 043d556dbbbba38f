-- DONE: finished entries leave, whoever owns them: DONE follows COMMIT.
-- KEYS: stream.  ARGV: group, prefix of seen keys, n, then n entry ids and, unless they are to be
-- remembered, as many job ids. Answers how many entries were still there.
local n = tonumber(ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 4, 3 + n))
local gone = redis.call('XDEL', KEYS[1], unpack(ARGV, 4, 3 + n))
if #ARGV > 3 + n then
    local seen = {}
    for i = 1, n do
        seen[i] = ARGV[2] .. ARGV[3 + n + i]
    end
    redis.call('DEL', unpack(seen))
end
return gone
