-- ACCESS_SHOW: shows what became of students, where the tombstone is still the one of whoever shows: else
-- somebody has changed them since, or may have, and what is to be shown may be older than that. So
-- nothing newer is ever overwritten, and nothing is put where there is nothing.
-- KEYS: access:<company>:<user>...  ARGV: the tombstone; for each key the value and its ms.
-- Answers {how many are shown}.
local shown = 0
for i = 1, #KEYS do
    if redis.call('GET', KEYS[i]) == ARGV[1] then
        redis.call('SET', KEYS[i], ARGV[2 * i], 'PX', ARGV[2 * i + 1])
        shown = shown + 1
    end
end
return {shown}
