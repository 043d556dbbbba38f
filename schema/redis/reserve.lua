-- RESERVE: a moment for one call, at most so far ahead; calls of all processes are an interval apart.
-- KEYS: budget.  ARGV: interval in us; how far ahead, us; how far the line of those who are sent away
-- may reach, us; for bulk calls also the interval between two of them, else 0.
-- The budget, all times in us: t, when the next call may go; b, the next bulk one; f, frozen until;
-- w and v, the end of the line of those sent away, and of bulk ones; i, the interval; n, how many
-- moments were given; c, when the last of them was.
-- Answers {1, us until the moment}, or {0, us to wait before asking again, 1 if frozen}.
local now = redis.call('TIME')
local us = now[1] * 1000000 + now[2]
local interval, ahead, line, apart =
    tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bulk = apart > 0
local tail = bulk and 'v' or 'w'
local kept = redis.call('HMGET', KEYS[1], 't', 'b', 'f', tail, 'i', 'n')
-- What is further away than it can have been set was set by a clock that has been put back since.
local function since(us_kept, most)
    us_kept = tonumber(us_kept) or 0
    return us_kept - us > most and 0 or us_kept
end
local longest = ahead + line + math.max(interval, tonumber(kept[5]) or 0)
local frozen = math.max(us, since(kept[3], 604800000000)) -- nobody is told to wait longer: 7 days
local at = math.max(us, since(kept[1], longest))
local share = at
if bulk then
    -- Of its share it may make up for a second, at the pace of all.
    share = math.max(us - 1000000, since(kept[2], longest + apart))
    at = math.max(at, share)
end
local function keep(until_us, ...)
    redis.call('HSET', KEYS[1], 'i', interval, ...)
    local ttl = math.max(86400000, math.ceil((until_us - us) / 1000))
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
end
if frozen == us and at - us <= ahead then
    local given = {'t', string.format('%.0f', at + interval),
        'n', string.format('%.0f', (tonumber(kept[6]) or 0) + 1), 'c', string.format('%.0f', us)}
    if bulk then
        given[7], given[8] = 'b', string.format('%.0f', share + apart)
    end
    keep(at, unpack(given))
    return {1, at - us}
end
-- Those sent away come back one by one, half as fast again as calls are let pass, so that no moment
-- is missed. Who finds the line too long comes back at its end; whoever asks scatters them.
local pace = bulk and apart or interval
local first = math.max(frozen, at - ahead / 2)
local last = math.max(first, tonumber(kept[4]) or 0) + math.floor(pace * 2 / 3)
last = math.min(last, first + line)
keep(last, tail, string.format('%.0f', last))
return {0, math.ceil(last - us), frozen > us and 1 or 0}
