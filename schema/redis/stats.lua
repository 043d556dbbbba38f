-- STATS: how a queue stands, at a cost that does not depend on its length.
-- KEYS: stream, :z.  ARGV: group.  Answers {entries nobody has been given, pending, delayed, age in
-- ms of the oldest nobody has been given or -1, ms since the oldest pending was prolonged or -1,
-- consumers}. Without a group nothing has been given to anybody.
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local length = redis.call('XLEN', KEYS[1])
local delayed = redis.call('ZCARD', KEYS[2])
local pending, consumers, after, idle = 0, 0, '-', -1
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, group in ipairs(groups.err and {} or groups) do
    local is = {}
    for i = 1, #group, 2 do
        is[group[i]] = group[i + 1]
    end
    if is.name == ARGV[1] then
        pending, consumers, after = is.pending, is.consumers, '(' .. is['last-delivered-id']
    end
end
if pending > 0 then
    local first = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)
    idle = first[1] and first[1][3] or -1
end
local oldest = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)
local age = -1
if oldest[1] then
    age = math.max(0, ms - tonumber(string.match(oldest[1][1], '^%d+')))
end
return {math.max(0, length - pending), pending, delayed, age, idle, consumers}
