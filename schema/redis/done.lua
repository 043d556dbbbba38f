-- DONE: finished entries leave, whoever owns them: DONE follows COMMIT.
-- KEYS: stream.  ARGV: group, prefix of seen keys ('' to leave them alone), then pairs of entry id
-- and job id. Answers how many entries were still there.
local gone = 0
for i = 3, #ARGV, 2 do
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
    gone = gone + redis.call('XDEL', KEYS[1], ARGV[i])
    if ARGV[2] ~= '' then
        redis.call('DEL', ARGV[2] .. ARGV[i + 1])
    end
end
return gone
