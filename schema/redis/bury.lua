-- BURY: an entry that has no row in PostgreSQL to die in goes to the dead stream, with its bytes.
-- It is not known any more: the sender may send it again.
-- KEYS: stream, dead stream, seen:<id>.  ARGV: group, consumer, entry id, reason. Answers 1, or 0 if not owner.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if pending.err or #pending == 0 or pending[1][2] ~= ARGV[2] then
    return 0
end
local found = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[3])
if #found > 0 then
    local fields = found[1][2]
    fields[#fields + 1] = 'reason'
    fields[#fields + 1] = ARGV[4]
    redis.call('XADD', KEYS[2], '*', unpack(fields))
end
return 1
