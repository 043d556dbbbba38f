#include "service/outbound.h"

static const struct {
    const char *text;
    enum outbound_policy policy;
} operations[OUTBOUND_OPERATION_COUNT + 1] = {
#define OUTBOUND(name, operation, policy) {operation, OUTBOUND_##policy},
#include "outbound.def"
#undef OUTBOUND
    {"", OUTBOUND_PARK}, /* releases may have none */
};

const char *outbound_operation_text(enum outbound_operation operation)
{
    REQUIRE((size_t)operation < OUTBOUND_OPERATION_COUNT);
    return operations[operation].text;
}

enum outbound_policy outbound_operation_policy(enum outbound_operation operation)
{
    REQUIRE((size_t)operation < OUTBOUND_OPERATION_COUNT);
    return operations[operation].policy;
}
