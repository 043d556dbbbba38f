-- ACCESS_HIDE: from now on nothing is shown of these students, who are about to change: applications ask
-- PostgreSQL. Whoever hid them before may show them no more.
-- KEYS: access:<company>:<user>...  ARGV: the tombstone, unlike any other; its seconds.  Answers {how many}.
for i = 1, #KEYS do
    redis.call('SET', KEYS[i], ARGV[1], 'EX', ARGV[2])
end
return {#KEYS}
