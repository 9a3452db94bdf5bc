/* The table of layouts: complete, without doubles, and with the numbers of the Windows SDK where the types are ours.
 */
#include "check.h"

#include "wfpsa/layout.h"
#include "wfpsa/wfp.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct wfpsa_layout *
find(const char *type, const char *field)
{
    const struct wfpsa_layout *row;
    for (uint32_t i = 0; (row = wfpsa_layout_at(i)) != NULL; i++) {
        if (strcmp(row->type, type) == 0 && strcmp(row->field, field) == 0) {
            return row;
        }
    }
    return NULL;
}

static void
every_row_is_there_once_and_inside_its_structure(void)
{
    const struct wfpsa_layout *row;
    uint32_t count = 0;
    for (; (row = wfpsa_layout_at(count)) != NULL; count++) {
        const struct wfpsa_layout *whole = find(row->type, "");
        CHECK(find(row->type, row->field) == row);
        CHECK(whole && row->size > 0 && (uint64_t)row->offset + row->size <= whole->size);
    }
    CHECK(count > 100);
    CHECK(wfpsa_layout_at(count) == NULL && wfpsa_layout_at(UINT32_MAX) == NULL);
}

static void
the_layout_is_the_sdks(void)
{
    static const struct {
        const char *type, *field;
        uint32_t offset64, size64, offset32, size32;
    } cases[] = {
        {"IPSEC_SA_DETAILS1", "", 0, 224, 0, 200}, /* mingw's headers say 216 and 192 */
        {"IPSEC_SA_DETAILS1", "virtualIfTunnelInfo", 208, 16, 184, 16},
        {"IPSEC_SA_DETAILS1", "udpEncapsulation", 192, 8, 176, 4},
        {"IPSEC_SA_DETAILS0", "", 0, 168, 0, 144},
        {"IPSEC_SA_CONTEXT0", "", 0, 24, 0, 16},
        {"IPSEC_SA_CONTEXT1", "outboundSa", 16, 8, 12, 4},
        {"IPSEC_SA_BUNDLE1", "saLookupContext", 84, 16, 68, 16},
        {"IPSEC_SA_BUNDLE0", "", 0, 88, 0, 72},
        {"IPSEC_TRAFFIC0", "", 0, 56, 0, 56},
        {"IPSEC_TRAFFIC1", "realIfProfileId", 64, 4, 64, 4},
        {"FWPM_FILTER0", "filterId", 176, 8, 136, 8},
        {"FWP_V6_ADDR_AND_MASK", "", 0, 17, 0, 17},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct wfpsa_layout *row = find(cases[i].type, cases[i].field);
        int wide = sizeof(void *) == 8;
        if (CHECK(row != NULL)) {
            CHECK_EQUAL(row->offset, wide ? cases[i].offset64 : cases[i].offset32);
            CHECK_EQUAL(row->size, wide ? cases[i].size64 : cases[i].size32);
        }
    }
}

int
main(void)
{
    RUN(every_row_is_there_once_and_inside_its_structure);
    RUN(the_layout_is_the_sdks);
    return closing_line();
}
