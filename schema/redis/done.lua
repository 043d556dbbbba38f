-- DONE: finished entries leave, whoever owns them: DONE follows COMMIT.
-- KEYS: stream.  ARGV: group, prefix of seen keys, n, then n entry ids and the ids of those jobs among
-- them that are to be known no more. Answers how many entries were still there.
local n = tonumber(ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 4, 3 + n))
local gone = redis.call('XDEL', KEYS[1], unpack(ARGV, 4, 3 + n))
local seen = {}
for i = 4 + n, #ARGV do
    seen[#seen + 1] = ARGV[2] .. ARGV[i]
end
if #seen > 0 then
    redis.call('DEL', unpack(seen))
end
return gone
