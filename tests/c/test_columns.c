/* The columnar batch: what decoding makes of pages that are plain, incomplete or absurd, and its later life. */
#include "foreign.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- the column table ---- */

static void
every_column_is_described_once(void)
{
    static const uint8_t widths[] = {1, 1, 2, 4, 8, 1, 4, 16, 16, 4};
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(i);
        if (!CHECK(info != NULL)) {
            return;
        }
        for (uint32_t j = 0; j < i; j++) {
            CHECK(strcmp(wfpsa_column_info(j)->name, info->name) != 0);
        }
        CHECK_EQUAL(info->width, widths[info->kind]);
        CHECK(info->version <= 1);
        CHECK(strncmp(info->name, info->attribute, strlen(info->attribute)) == 0);
        CHECK_TEXT(info->name + strlen(info->attribute), info->direction == WFPSA_INBOUND    ? "_in"
                                                         : info->direction == WFPSA_OUTBOUND ? "_out"
                                                                                             : "");
        CHECK((info->kind == WFPSA_ENUM) == (info->enumeration[0] != 0));
        CHECK(info->source[0] && info->note[0]);
        CHECK(!strstr(info->name, "key_bytes") && !strstr(info->source, "authKey") && !strstr(info->source, "Blob"));
    }
    CHECK(wfpsa_column_info(WFPSA_COLUMN_COUNT) == NULL);
    CHECK(wfpsa_column_info(UINT32_MAX) == NULL);
    CHECK_TEXT(wfpsa_column_info(WFPSA_COLUMN_context_id)->name, "context_id");
    CHECK_TEXT(wfpsa_column_info(WFPSA_COLUMN_spi_in)->name, "spi_in");
    CHECK_TEXT(wfpsa_column_info(WFPSA_COLUMN_COUNT - 1)->name, "extended_mode_target_out");
}

static void
version_0_lacks_the_columns_of_version_1(void)
{
    static const uint32_t later[] = {WFPSA_COLUMN_local_port,
                                     WFPSA_COLUMN_ip_protocol,
                                     WFPSA_COLUMN_local_interface_luid,
                                     WFPSA_COLUMN_real_profile_id,
                                     WFPSA_COLUMN_qm_filter_id_in,
                                     WFPSA_COLUMN_qm_filter_id_out,
                                     WFPSA_COLUMN_lookup_context_in,
                                     WFPSA_COLUMN_lookup_context_out,
                                     WFPSA_COLUMN_virtual_tunnel_id_in,
                                     WFPSA_COLUMN_virtual_tunnel_id_out,
                                     WFPSA_COLUMN_traffic_selector_id_in,
                                     WFPSA_COLUMN_traffic_selector_id_out};
    struct wfpsa_columns *batches[2] = {wfpsa_columns_new(0), wfpsa_columns_new(1)};
    unsigned lacking = 0;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        lacking += batches[0]->columns[i] == NULL;
        CHECK(batches[1]->columns[i] != NULL);
    }
    CHECK_EQUAL(lacking, COUNT(later));
    for (size_t i = 0; i < COUNT(later); i++) {
        CHECK(batches[0]->columns[later[i]] == NULL);
    }
    wfpsa_columns_release(batches[0]);
    wfpsa_columns_release(batches[1]);
}

/* ---- plain contexts ---- */

/* Every field of one direction with a value of its own, counted up from `base`. */
static IPSEC_SA_DETAILS1 *
full_details(uint32_t base, const uint16_t *main_mode, const uint16_t *extended_mode)
{
    IPSEC_SA_DETAILS1 details;
    IPSEC_SA0 sas[2];
    IPSEC_KEYMODULE_STATE0 state;
    FWPM_FILTER0 filter;
    IPSEC_V4_UDP_ENCAPSULATION0 ports = {(UINT16)(base + 1), (UINT16)(base + 2)};
    memset(&details, 0xA5, sizeof details);
    memset(&state, 0xA5, sizeof state);
    memset(&filter, 0xA5, sizeof filter);

    details.ipVersion = FWP_IP_VERSION_V4;
    details.traffic.ipVersion = FWP_IP_VERSION_V4;
    details.traffic.localV4Address = 0x0A010203;
    details.traffic.remoteV4Address = 0xC0A8FE01;
    details.traffic.trafficType = IPSEC_TRAFFIC_TYPE_TUNNEL;
    details.traffic.tunnelPolicyId = ((uint64_t)base << 32) + 3;
    details.traffic.remotePort = 0xFEDC;
    details.traffic.localPort = 0x1BD;
    details.traffic.ipProtocol = 17;
    details.traffic.localIfLuid = 0x0006008001000000;
    details.traffic.realIfProfileId = 0x80000001;

    details.saBundle.flags = base + 4;
    details.saBundle.lifetime.lifetimeSeconds = base + 5;
    details.saBundle.lifetime.lifetimeKilobytes = base + 6;
    details.saBundle.lifetime.lifetimePackets = base + 7;
    details.saBundle.idleTimeoutSeconds = base + 8;
    details.saBundle.ndAllowClearTimeoutSeconds = base + 9;
    details.saBundle.ipsecId = make_identity(make_name(main_mode), make_name(extended_mode));
    details.saBundle.napContext = base + 10;
    details.saBundle.qmSaId = base + 11;
    details.saBundle.numSAs = 2;
    sas[0] = make_sa(base + 12, IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER, base % 7 + 1, (uint8_t)(base % 7 + 2),
                     base % 7 + 3, (uint8_t)(base % 7 + 4));
    sas[1] = make_sa(base + 13, IPSEC_TRANSFORM_AH, base % 7 + 5, (uint8_t)(base % 7 + 6), 0, 0);
    details.saBundle.saList = PIECE(sas);
    memset(&state.keyModuleKey, (int)(base + 14) & 0x7F, 16);
    state.stateBlob = key_blob(40, 40);
    details.saBundle.keyModuleState = PIECE(state);
    details.saBundle.ipVersion = FWP_IP_VERSION_V4;
    details.saBundle.peerV4PrivateAddress = base + 15;
    details.saBundle.mmSaId = ((uint64_t)base << 40) + 16;
    details.saBundle.pfsGroup = (IPSEC_PFS_GROUP)(base % 7 + 1);
    memset(&details.saBundle.saLookupContext, (int)(base + 17) & 0x7F, 16);
    details.saBundle.qmFilterId = ((uint64_t)base << 36) + 18;

    details.udpEncapsulation = PIECE(ports);
    filter.filterId = ((uint64_t)base << 34) + 19;
    details.transportFilter = PIECE(filter);
    details.virtualIfTunnelInfo.virtualIfTunnelId = ((uint64_t)base << 33) + 20;
    details.virtualIfTunnelInfo.trafficSelectorId = ((uint64_t)base << 35) + 21;
    return PIECE(details);
}

static int
all_bytes_are(const uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 16; i++) {
        if (bytes[i] != (value & 0x7F)) {
            return 0;
        }
    }
    return 1;
}

#define CHECK_DIRECTION(batch, side, base)                                                                            \
    CHECK_EQUAL(U32(batch, spi_##side, 0), base + 12);                                                                \
    CHECK_EQUAL(U32(batch, ah_spi_##side, 0), base + 13);                                                             \
    CHECK_EQUAL(U8(batch, sa_count_##side, 0), 2);                                                                    \
    CHECK_EQUAL(U8(batch, transform_##side, 0), 4);                                                                   \
    CHECK_EQUAL(U8(batch, auth_type_##side, 0), base % 7 + 1);                                                        \
    CHECK_EQUAL(U8(batch, auth_config_##side, 0), base % 7 + 2);                                                      \
    CHECK_EQUAL(U8(batch, cipher_type_##side, 0), base % 7 + 3);                                                      \
    CHECK_EQUAL(U8(batch, cipher_config_##side, 0), base % 7 + 4);                                                    \
    CHECK_EQUAL(U8(batch, ah_auth_type_##side, 0), base % 7 + 5);                                                     \
    CHECK_EQUAL(U8(batch, ah_auth_config_##side, 0), base % 7 + 6);                                                   \
    CHECK_EQUAL(U32(batch, bundle_flags_##side, 0), base + 4);                                                        \
    CHECK_EQUAL(U32(batch, lifetime_seconds_##side, 0), base + 5);                                                    \
    CHECK_EQUAL(U32(batch, lifetime_kilobytes_##side, 0), base + 6);                                                  \
    CHECK_EQUAL(U32(batch, lifetime_packets_##side, 0), base + 7);                                                    \
    CHECK_EQUAL(U32(batch, idle_timeout_seconds_##side, 0), base + 8);                                                \
    CHECK_EQUAL(U32(batch, nd_allow_clear_timeout_seconds_##side, 0), base + 9);                                      \
    CHECK_EQUAL(U32(batch, nap_context_##side, 0), base + 10);                                                        \
    CHECK_EQUAL(U32(batch, qm_sa_id_##side, 0), base + 11);                                                           \
    CHECK_EQUAL(U64(batch, mm_sa_id_##side, 0), ((uint64_t)base << 40) + 16);                                         \
    CHECK_EQUAL(U8(batch, pfs_group_##side, 0), base % 7 + 1);                                                        \
    CHECK_EQUAL(U64(batch, filter_id_##side, 0), ((uint64_t)base << 32) + 3);                                         \
    CHECK_EQUAL(U64(batch, transport_filter_id_##side, 0), ((uint64_t)base << 34) + 19);                              \
    CHECK_EQUAL(U16(batch, udp_local_port_##side, 0), (uint16_t)(base + 1));                                          \
    CHECK_EQUAL(U16(batch, udp_remote_port_##side, 0), (uint16_t)(base + 2));                                         \
    CHECK_EQUAL(U32(batch, peer_private_address_##side, 0), base + 15);                                               \
    CHECK(all_bytes_are(BYTES16(batch, key_module_##side, 0), base + 14));                                            \
    if ((batch)->version >= 1) {                                                                                      \
        CHECK_EQUAL(U64(batch, qm_filter_id_##side, 0), ((uint64_t)base << 36) + 18);                                 \
        CHECK(all_bytes_are(BYTES16(batch, lookup_context_##side, 0), base + 17));                                    \
        CHECK_EQUAL(U64(batch, virtual_tunnel_id_##side, 0), ((uint64_t)base << 33) + 20);                            \
        CHECK_EQUAL(U64(batch, traffic_selector_id_##side, 0), ((uint64_t)base << 35) + 21);                          \
    }

static void
each_field_reaches_its_column(void)
{
    const uint32_t in = 0x51000, out = 0x7F123;
    IPSEC_SA_CONTEXT1 *context = make_context(0xFEDCBA9876543210, full_details(in, u"in main", u"in extended"),
                                              full_details(out, u"out main", u"out extended"));
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = decode(version, &context, 1);
        CHECK_EQUAL(batch->length, 1);
        CHECK_EQUAL(batch->version, version);
        CHECK_EQUAL(U64(batch, context_id, 0), 0xFEDCBA9876543210);
        CHECK_EQUAL(U8(batch, has_inbound, 0), 1);
        CHECK_EQUAL(U8(batch, has_outbound, 0), 1);
        CHECK_EQUAL(U8(batch, ip_version, 0), 4);
        CHECK_EQUAL(U8(batch, traffic_type, 0), 1);
        CHECK_BYTES(BYTES16(batch, local_address, 0), "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\x01\x02\x03", 16);
        CHECK_BYTES(BYTES16(batch, remote_address, 0), "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xC0\xA8\xFE\x01", 16);
        CHECK_EQUAL(U16(batch, remote_port, 0), 0xFEDC);
        CHECK_EQUAL(U8(batch, traffic_differs, 0), 0);
        if (version >= 1) {
            CHECK_EQUAL(U16(batch, local_port, 0), 0x1BD);
            CHECK_EQUAL(U8(batch, ip_protocol, 0), 17);
            CHECK_EQUAL(U64(batch, local_interface_luid, 0), 0x0006008001000000);
            CHECK_EQUAL(U32(batch, real_profile_id, 0), 0x80000001);
        }
        CHECK_DIRECTION(batch, in, in)
        CHECK_DIRECTION(batch, out, out)
        CHECK_EQUAL(batch->strings.count, 4);
        CHECK(name_is(batch, U32(batch, main_mode_target_in, 0), "in main", 7));
        CHECK(name_is(batch, U32(batch, extended_mode_target_in, 0), "in extended", 11));
        CHECK(name_is(batch, U32(batch, main_mode_target_out, 0), "out main", 8));
        CHECK(name_is(batch, U32(batch, extended_mode_target_out, 0), "out extended", 12));
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            CHECK(!batch->columns[column] || !is_absent(batch, column, 0));
        }
        CHECK_EQUAL(batch->presence[0], WFPSA_PRESENT_INBOUND | WFPSA_PRESENT_OUTBOUND | WFPSA_PRESENT_ADDRESS |
                                            WFPSA_PRESENT_FIRST_IN | WFPSA_PRESENT_FIRST_OUT |
                                            WFPSA_PRESENT_SECOND_IN | WFPSA_PRESENT_SECOND_OUT);
        wfpsa_columns_release(batch);
    }
    forget_pieces();
}

static void
ipv6_addresses_are_taken_as_they_are(void)
{
    static const uint8_t local[16] = "\x20\x01\x0D\xB8\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B";
    IPSEC_SA_DETAILS1 *details = plain_details();
    details->ipVersion = FWP_IP_VERSION_V6;
    details->traffic.ipVersion = FWP_IP_VERSION_V6;
    memcpy(details->traffic.localV6Address, local, 16);
    memset(details->traffic.remoteV6Address, 0, 16); /* all zero, and there all the same */
    details->saBundle.ipVersion = FWP_IP_VERSION_V6;
    details->saBundle.peerV4PrivateAddress = 7;
    details->udpEncapsulation = wild(); /* the union's arm is empty for IPv6 */
    IPSEC_SA_CONTEXT1 *context = make_context(1, details, NULL);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = decode(version, &context, 1);
        CHECK_EQUAL(U8(batch, ip_version, 0), 6);
        CHECK_BYTES(BYTES16(batch, local_address, 0), local, 16);
        CHECK(!ABSENT(batch, local_address, 0) && !ABSENT(batch, remote_address, 0));
        CHECK(ABSENT(batch, udp_local_port_in, 0) && ABSENT(batch, udp_remote_port_in, 0));
        CHECK(ABSENT(batch, peer_private_address_in, 0));
        wfpsa_columns_release(batch);
    }
    forget_pieces();
}

static void
the_row_shows_the_outbound_traffic_and_says_where_the_inbound_differs(void)
{
    enum { SAME, LOCAL, REMOTE, REMOTE_PORT, IP_VERSION, LOCAL_PORT, PROTOCOL, TYPE, LUID, KINDS };
    for (int v6 = 0; v6 <= 1; v6++) {
        for (int kind = SAME; kind < KINDS; kind++) {
            IPSEC_SA_DETAILS1 *in = plain_details(), *out = plain_details();
            memset(out->traffic.localV6Address, 1, 16);
            memset(out->traffic.remoteV6Address, 2, 16);
            out->traffic.ipVersion = v6 ? FWP_IP_VERSION_V6 : FWP_IP_VERSION_V4;
            out->traffic.remotePort = 80;
            in->traffic = out->traffic;
            if (!v6) { /* the rest of the union is nobody's business */
                memset(in->traffic.localV6Address + 4, 9, 12);
                memset(in->traffic.remoteV6Address + 4, 9, 12);
            }
            in->traffic.localV6Address[v6 ? 15 : 3] ^= kind == LOCAL ? 1 : 0;
            in->traffic.remoteV6Address[v6 ? 15 : 3] ^= kind == REMOTE ? 1 : 0;
            in->traffic.remotePort ^= kind == REMOTE_PORT ? 1 : 0;
            in->traffic.ipVersion = kind == IP_VERSION ? FWP_IP_VERSION_NONE : in->traffic.ipVersion;
            in->traffic.localPort ^= kind == LOCAL_PORT ? 1 : 0;
            in->traffic.ipProtocol ^= kind == PROTOCOL ? 1 : 0;
            in->traffic.trafficType = kind == TYPE ? IPSEC_TRAFFIC_TYPE_TUNNEL : in->traffic.trafficType;
            in->traffic.localIfLuid ^= kind == LUID ? 1 : 0;
            IPSEC_SA_CONTEXT1 *context = make_context(1, in, out);
            for (uint32_t version = 0; version <= 1; version++) {
                struct wfpsa_columns *batch = decode(version, &context, 1);
                int differs = kind >= LOCAL && kind <= (version == 0 ? IP_VERSION : PROTOCOL);
                CHECK_EQUAL(U8(batch, traffic_differs, 0), differs);
                CHECK_EQUAL(U16(batch, remote_port, 0), 80);
                CHECK_EQUAL(BYTES16(batch, local_address, 0)[15], 1);
                CHECK_EQUAL(BYTES16(batch, remote_address, 0)[15], 2);
                wfpsa_columns_release(batch);
            }
            forget_pieces();
        }
    }
}

/* ---- what may be missing ---- */

static int
absent_without(const struct wfpsa_column_info *info, int in, int out)
{
    if (info->direction == WFPSA_INBOUND) {
        return !in;
    }
    if (info->direction == WFPSA_OUTBOUND) {
        return !out;
    }
    return info->absence != WFPSA_NEVER && !in && !out;
}

static void
one_sided_and_half_built_contexts_lack_what_belongs_to_the_missing_side(void)
{
    for (int sides = 0; sides < 3; sides++) {
        int in = sides == 1, out = sides == 2;
        IPSEC_SA_CONTEXT1 *context = make_context(7, in ? full_details(0x51000, u"m", u"e") : NULL,
                                                  out ? full_details(0x51000, u"m", u"e") : NULL);
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *batch = decode(version, &context, 1);
            CHECK_EQUAL(U64(batch, context_id, 0), 7);
            CHECK_EQUAL(U8(batch, has_inbound, 0), in);
            CHECK_EQUAL(U8(batch, has_outbound, 0), out);
            CHECK_EQUAL(U8(batch, traffic_differs, 0), 0);
            CHECK_EQUAL(U8(batch, ip_version, 0), in || out ? 4 : 0);
            for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
                CHECK(!batch->columns[column] ||
                      is_absent(batch, column, 0) == absent_without(wfpsa_column_info(column), in, out));
            }
            wfpsa_columns_release(batch);
        }
        forget_pieces();
    }
}

static void
a_missing_side_leaves_nothing_of_the_row_that_was_decoded_before_in_its_place(void)
{
    /* Row 64 + i reuses the place of row i in the block. */
    IPSEC_SA_CONTEXT1 *contexts[128];
    for (uint32_t i = 0; i < 64; i++) {
        contexts[i] = make_context(i, full_details(0x51000, u"m", u"e"), full_details(0x61000, u"m", u"e"));
        contexts[64 + i] = make_context(64 + i, NULL, NULL);
    }
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = decode(version, contexts, 128);
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            int never = wfpsa_column_info(column)->absence == WFPSA_NEVER;
            for (uint64_t row = 64; batch->columns[column] && row < 128; row++) {
                CHECK_EQUAL(is_absent(batch, column, row), !never);
            }
        }
        wfpsa_columns_release(batch);
    }
    forget_pieces();
}

static void
null_pointers_are_not_followed(void)
{
    static const uint32_t transforms[] = {1, 2, 3, 4, 5};
    for (size_t i = 0; i <= COUNT(transforms); i++) {
        IPSEC_SA_DETAILS1 *in = bare_details(), *out = bare_details();
        in->saBundle.saList = NULL; /* whatever numSAs says */
        in->saBundle.numSAs = 5;
        in->saBundle.ipsecId = make_identity(NULL, NULL);
        if (i < COUNT(transforms)) {
            IPSEC_SA0 sas[2];
            memset(sas, 0, sizeof sas);
            sas[0].spi = 1;
            sas[1].spi = 2;
            sas[0].saTransformType = sas[1].saTransformType = (IPSEC_TRANSFORM_TYPE)transforms[i];
            out->saBundle.saList = PIECE(sas);
            out->saBundle.numSAs = 2;
        } else {
            out->saBundle.numSAs = 0;
            out->saBundle.saList = wild(); /* none are listed, so nobody may look */
        }
        IPSEC_SA_CONTEXT1 *context = make_context(1, in, out);
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *batch = decode(version, &context, 1);
            CHECK_EQUAL(U8(batch, sa_count_in, 0), 5);
            CHECK(!ABSENT(batch, sa_count_in, 0) && ABSENT(batch, spi_in, 0) && ABSENT(batch, ah_spi_in, 0));
            CHECK(ABSENT(batch, transform_in, 0) && ABSENT(batch, auth_type_in, 0) &&
                  ABSENT(batch, auth_config_in, 0));
            CHECK(ABSENT(batch, main_mode_target_in, 0) && ABSENT(batch, extended_mode_target_in, 0));
            CHECK(ABSENT(batch, transport_filter_id_in, 0) && ABSENT(batch, key_module_in, 0));
            CHECK(ABSENT(batch, main_mode_target_out, 0) && ABSENT(batch, udp_local_port_out, 0));
            if (i < COUNT(transforms)) {
                CHECK_EQUAL(U32(batch, spi_out, 0), 1);
                CHECK_EQUAL(U32(batch, ah_spi_out, 0), 2);
                CHECK_EQUAL(U8(batch, transform_out, 0), transforms[i]);
            } else {
                CHECK_EQUAL(U8(batch, sa_count_out, 0), 0);
                CHECK(!ABSENT(batch, sa_count_out, 0) && ABSENT(batch, spi_out, 0));
                CHECK(ABSENT(batch, transform_out, 0));
            }
            CHECK(ABSENT(batch, auth_type_out, 0) && ABSENT(batch, cipher_type_out, 0));
            CHECK(ABSENT(batch, auth_config_out, 0) && ABSENT(batch, cipher_config_out, 0));
            CHECK(ABSENT(batch, ah_auth_type_out, 0) && ABSENT(batch, ah_auth_config_out, 0));
            wfpsa_columns_release(batch);
        }
        forget_pieces();
    }
}

static void
a_spi_of_zero_is_there_and_a_missing_one_is_not(void)
{
    IPSEC_SA_DETAILS1 *in = plain_details(), *out = plain_details();
    in->saBundle.saList[0].spi = 0;
    out->saBundle.numSAs = 0;
    IPSEC_SA_CONTEXT1 *context = make_context(1, in, out);
    struct wfpsa_columns *batch = decode(1, &context, 1);
    CHECK(!ABSENT(batch, spi_in, 0) && ABSENT(batch, spi_out, 0));
    CHECK_EQUAL(U32(batch, spi_in, 0), 0);
    wfpsa_columns_release(batch);
    forget_pieces();
}

static void
only_the_parts_that_a_transform_has_are_read(void)
{
    for (uint32_t transform = 1; transform <= 5; transform++) {
        IPSEC_SA_DETAILS1 *details = bare_details();
        IPSEC_SA0 sas[2] = {make_sa(1, transform, 2, 3, 4, 5), make_sa(2, transform, 6, 7, 8, 9)};
        details->saBundle.saList = PIECE(sas);
        details->saBundle.numSAs = 2;
        IPSEC_SA_CONTEXT1 *context = make_context(1, NULL, details);
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *batch = decode(version, &context, 1);
            int authenticates = transform != IPSEC_TRANSFORM_ESP_CIPHER;
            int encrypts = transform == IPSEC_TRANSFORM_ESP_CIPHER || transform == IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER;
            CHECK_EQUAL(U8(batch, transform_out, 0), transform);
            CHECK_EQUAL(U8(batch, auth_type_out, 0), authenticates ? 2 : 255);
            CHECK_EQUAL(U8(batch, auth_config_out, 0), authenticates ? 3 : 255);
            CHECK_EQUAL(U8(batch, cipher_type_out, 0), encrypts ? 4 : 255);
            CHECK_EQUAL(U8(batch, cipher_config_out, 0), encrypts ? 5 : 255);
            CHECK_EQUAL(U8(batch, ah_auth_type_out, 0), authenticates ? 6 : 255);
            CHECK_EQUAL(U8(batch, ah_auth_config_out, 0), authenticates ? 7 : 255);
            wfpsa_columns_release(batch);
        }
        forget_pieces();
    }
}

/* ---- what nobody should report ---- */

static void
a_number_of_sas_is_believed_up_to_two(void)
{
    static const uint32_t numbers[] = {2, 3, 253, 254, 255, 256, 0x10000, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        IPSEC_SA_DETAILS1 *details = bare_details();
        IPSEC_SA0 sas[2] = {make_sa(1, 4, 2, 3, 4, 5), make_sa(2, 1, 6, 7, 8, 9)};
        details->saBundle.saList = PIECE(sas); /* exactly two */
        details->saBundle.numSAs = numbers[i];
        IPSEC_SA_CONTEXT1 *context = make_context(1, details, details);
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *batch = decode(version, &context, 1);
            CHECK_EQUAL(U8(batch, sa_count_in, 0), numbers[i] < 254 ? numbers[i] : 254);
            CHECK_EQUAL(U32(batch, spi_in, 0), 1);
            CHECK_EQUAL(U32(batch, ah_spi_out, 0), 2);
            CHECK_EQUAL(key_bytes_left(), 0);
            refill_keys();
            wfpsa_columns_release(batch);
        }
        forget_pieces();
    }
}

static void
unknown_enum_values_are_kept_up_to_253_and_then_out_of_range(void)
{
    static const uint32_t values[] = {0, 6, 9, 99, 252, 253, 254, 255, 256, 511, 0x7FFFFFFF, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < COUNT(values); i++) {
        uint32_t value = values[i];
        uint8_t narrow = value < 254 ? (uint8_t)value : 254;
        uint8_t config = (uint8_t)value, narrow_config = config < 254 ? config : 254;
        IPSEC_SA_DETAILS1 *in = bare_details(), *out = bare_details();
        IPSEC_SA0 sas[2] = {make_sa(1, 4, value, config, value, config), make_sa(2, 1, value, config, 0, 0)};
        IPSEC_SA0 unknown[2] = {make_sa(3, value ? value : 77, 0, 0, 0, 0), make_sa(4, 0x1000 + value, 0, 0, 0, 0)};
        in->saBundle.saList = PIECE(sas);
        in->saBundle.numSAs = 2;
        in->saBundle.pfsGroup = (IPSEC_PFS_GROUP)value;
        out->saBundle.saList = PIECE(unknown); /* their pointers are wild */
        out->saBundle.numSAs = 2;
        out->traffic.trafficType = (IPSEC_TRAFFIC_TYPE)value;
        IPSEC_SA_CONTEXT1 *context = make_context(1, in, out);
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *batch = decode(version, &context, 1);
            CHECK_EQUAL(U8(batch, auth_type_in, 0), narrow);
            CHECK_EQUAL(U8(batch, auth_config_in, 0), narrow_config);
            CHECK_EQUAL(U8(batch, cipher_type_in, 0), narrow);
            CHECK_EQUAL(U8(batch, cipher_config_in, 0), narrow_config);
            CHECK_EQUAL(U8(batch, ah_auth_type_in, 0), narrow);
            CHECK_EQUAL(U8(batch, ah_auth_config_in, 0), narrow_config);
            CHECK_EQUAL(U8(batch, pfs_group_in, 0), narrow);
            CHECK_EQUAL(U8(batch, traffic_type, 0), narrow);
            CHECK(!ABSENT(batch, auth_type_in, 0) && !ABSENT(batch, pfs_group_in, 0));
            CHECK_EQUAL(U8(batch, transform_out, 0), value ? narrow : 77);
            CHECK(!ABSENT(batch, transform_out, 0));
            CHECK(ABSENT(batch, auth_type_out, 0) && ABSENT(batch, cipher_type_out, 0));
            CHECK(ABSENT(batch, ah_auth_type_out, 0) && !ABSENT(batch, ah_spi_out, 0));
            wfpsa_columns_release(batch);
        }
        forget_pieces();
    }
}

static void
an_unknown_ip_version_is_named_other_and_has_no_addresses(void)
{
    static const uint32_t values[] = {2, 3, 4, 6, 253, 254, 255, 256, UINT32_MAX};
    for (size_t i = 0; i < COUNT(values); i++) {
        IPSEC_SA_DETAILS1 *details = plain_details();
        IPSEC_SA_CONTEXT1 *context = make_context(1, details, NULL);
        details->ipVersion = (FWP_IP_VERSION)values[i];
        details->traffic.ipVersion = (FWP_IP_VERSION)values[i];
        details->traffic.remotePort = 5;
        details->saBundle.ipVersion = (FWP_IP_VERSION)values[i];
        details->saBundle.peerV4PrivateAddress = 5;
        details->udpEncapsulation = wild();
        for (uint32_t version = 0; version <= 1; version++) {
            struct wfpsa_columns *batch = decode(version, &context, 1);
            CHECK_EQUAL(U8(batch, ip_version, 0), WFPSA_IP_VERSION_OTHER);
            CHECK(!ABSENT(batch, ip_version, 0) && !ABSENT(batch, remote_port, 0));
            CHECK(ABSENT(batch, local_address, 0) && ABSENT(batch, remote_address, 0));
            CHECK(ABSENT(batch, peer_private_address_in, 0) && ABSENT(batch, udp_local_port_in, 0));
            CHECK_EQUAL(batch->presence[0] & WFPSA_PRESENT_ADDRESS, 0);
            wfpsa_columns_release(batch);
        }
        forget_pieces();
    }
}

static void
a_null_entry_in_a_page_is_passed_over(void)
{
    IPSEC_SA_CONTEXT1 *contexts[3] = {NULL, make_context(5, plain_details(), NULL), NULL};
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = decode(version, contexts, 3);
        CHECK_EQUAL(batch->length, 1);
        CHECK_EQUAL(U64(batch, context_id, 0), 5);
        wfpsa_columns_release(batch);
    }
    forget_pieces();
}

/* ---- names ---- */

static void
names_become_utf8_and_an_unpaired_surrogate_the_replacement_character(void)
{
    static const struct {
        uint16_t units[8];
        const char *utf8;
        size_t size;
    } cases[] = {
        {{'a', 0}, "a", 1},
        {{0x7F, 0x80, 0x7FF, 0x800, 0}, "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80", 8},
        {{'Z', 'o', 0xEB, 0}, "Zo\xC3\xAB", 4},
        {{0x6771, 0x4EAC, 0}, "\xE6\x9D\xB1\xE4\xBA\xAC", 6},
        {{0xD7FF, 0xE000, 0xFFFF, 0}, "\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF", 9},
        {{0xD83D, 0xDD12, 0}, "\xF0\x9F\x94\x92", 4},
        {{0xD800, 0xDC00, 0xDBFF, 0xDFFF, 0}, "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 8},
        {{0xD83D, 0}, "\xEF\xBF\xBD", 3},
        {{0xDE00, 0}, "\xEF\xBF\xBD", 3},
        {{0xDE00, 0xD83D, 0}, "\xEF\xBF\xBD\xEF\xBF\xBD", 6},
        {{0xD83D, 0xD83D, 0xDE00, 0}, "\xEF\xBF\xBD\xF0\x9F\x98\x80", 7},
        {{0xD83D, 'x', 0xDE00, 0}, "\xEF\xBF\xBDx\xEF\xBF\xBD", 7},
        {{'1', '2', '3', '4', '5', '6', '7', 0}, "1234567", 7},
        {{'1', '2', '3', '4', 0}, "1234", 4},
    };
    IPSEC_SA_CONTEXT1 *contexts[COUNT(cases)];
    for (size_t i = 0; i < COUNT(cases); i++) {
        IPSEC_SA_DETAILS1 *details = plain_details();
        details->saBundle.ipsecId = make_identity(make_name(cases[i].units), NULL);
        contexts[i] = make_context(i, NULL, details);
    }
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = decode(version, contexts, COUNT(cases));
        CHECK_EQUAL(batch->strings.count, COUNT(cases) - 1); /* two of them are one text */
        for (size_t i = 0; i < COUNT(cases); i++) {
            CHECK(name_is(batch, U32(batch, main_mode_target_out, i), cases[i].utf8, cases[i].size));
            CHECK(ABSENT(batch, extended_mode_target_out, i) && ABSENT(batch, main_mode_target_in, i));
        }
        wfpsa_columns_release(batch);
    }
    forget_pieces();
}

static void
an_empty_name_is_a_name_and_a_missing_one_is_absent(void)
{
    /* Alone: the first name of a batch, with no text at all. */
    IPSEC_SA_DETAILS1 *details = plain_details();
    details->saBundle.ipsecId = make_identity(make_name(u""), NULL);
    IPSEC_SA_CONTEXT1 *context = make_context(1, details, NULL);
    struct wfpsa_columns *batch = decode(1, &context, 1), *other = decode(0, &context, 1);
    CHECK_EQUAL(batch->strings.count, 1);
    CHECK_EQUAL(U32(batch, main_mode_target_in, 0), 1);
    CHECK(!ABSENT(batch, main_mode_target_in, 0) && ABSENT(batch, extended_mode_target_in, 0));
    CHECK(name_is(batch, 1, "", 0));
    CHECK(wfpsa_rows_equal(batch, 0, other, 0, NULL));
    struct wfpsa_columns *taken = wfpsa_take(batch, 0, 1, NULL, 1);
    CHECK(taken && wfpsa_rows_equal(batch, 0, taken, 0, NULL));
    wfpsa_columns_release(taken);
    wfpsa_columns_release(other);
    wfpsa_columns_release(batch);
    forget_pieces();
}

static void
a_name_of_32767_units_is_whole_and_a_longer_one_is_cut(void)
{
    enum { MOST = 32767 };
    static uint16_t units[MOST + 9];
    WCHAR *names[5];
    IPSEC_SA_CONTEXT1 *contexts[COUNT(names)];
    static char expected[MOST + 4];
    for (size_t i = 0; i < COUNT(units); i++) {
        units[i] = 'n';
    }
    names[0] = piece(units, MOST * 2);       /* no NUL: nothing behind may be read */
    names[1] = piece(units, (MOST + 1) * 2); /* none either */
    units[MOST] = 0;
    names[2] = piece(units, (MOST + 1) * 2);
    units[MOST - 1] = 0xD83D; /* the cut goes through a pair */
    units[MOST] = 0xDE00;
    units[MOST + 1] = 0;
    names[3] = piece(units, (MOST + 2) * 2);
    units[MOST - 1] = 0;
    names[4] = piece(units, MOST * 2);
    for (size_t i = 0; i < COUNT(names); i++) {
        IPSEC_SA_DETAILS1 *details = plain_details();
        details->saBundle.ipsecId = make_identity(NULL, names[i]);
        contexts[i] = make_context(i, details, NULL);
    }
    memset(expected, 'n', sizeof expected);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = decode(version, contexts, COUNT(names));
        CHECK_EQUAL(batch->strings.count, 3);
        CHECK_EQUAL(U32(batch, extended_mode_target_in, 0), U32(batch, extended_mode_target_in, 1));
        CHECK_EQUAL(U32(batch, extended_mode_target_in, 0), U32(batch, extended_mode_target_in, 2));
        CHECK(name_is(batch, U32(batch, extended_mode_target_in, 0), expected, MOST));
        memcpy(expected + MOST - 1, "\xEF\xBF\xBD", 3);
        CHECK(name_is(batch, U32(batch, extended_mode_target_in, 3), expected, MOST + 2));
        memset(expected, 'n', sizeof expected);
        CHECK(name_is(batch, U32(batch, extended_mode_target_in, 4), expected, MOST - 1));
        wfpsa_columns_release(batch);
    }
    forget_pieces();
}

static void
names_of_every_length_are_read_to_their_end_and_no_further(void)
{
    enum { MOST = 32767 };
    static uint16_t units[MOST + 4];
    static const uint32_t starts[] = {1, MOST - 9};
    IPSEC_SA_CONTEXT1 *contexts[24];
    static char expected[MOST + 1];
    memset(expected, 'x', sizeof expected);
    for (uint32_t i = 0; i < COUNT(contexts); i++) {
        uint32_t length = starts[i / 12] + i % 12;
        IPSEC_SA_DETAILS1 *details = bare_details();
        for (uint32_t at = 0; at <= length; at++) {
            units[at] = at < length ? 'x' : 0;
        }
        details->saBundle.ipsecId = make_identity(make_name(units), NULL);
        contexts[i] = make_context(i, details, NULL);
    }
    struct wfpsa_columns *batch = decode(1, contexts, COUNT(contexts));
    for (uint32_t i = 0; i < COUNT(contexts); i++) {
        uint32_t length = starts[i / 12] + i % 12;
        CHECK(name_is(batch, U32(batch, main_mode_target_in, i), expected, length < MOST ? length : MOST));
    }
    CHECK_EQUAL(batch->strings.count, COUNT(contexts) - 2); /* the two longest are cut to the third */
    wfpsa_columns_release(batch);
    forget_pieces();
}

/* "name-" and six hexadecimal digits, in both encodings. */
static size_t
numbered_name(uint32_t number, uint16_t *units, char *text)
{
    int size = snprintf(text, 32, "name-%06" PRIX32, number);
    for (int i = 0; i <= size; i++) {
        units[i] = (uint16_t)text[i];
    }
    return (size_t)size;
}

static void
thousands_of_names_are_kept_once_each(void)
{
    enum { NAMES = 6000, PAGE = 500 };
    uint16_t units[32];
    char text[32];
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = wfpsa_columns_new(version);
        for (uint32_t first = 0; first < NAMES; first += PAGE) {
            IPSEC_SA_CONTEXT1 *contexts[PAGE];
            for (uint32_t i = 0; i < PAGE; i++) {
                IPSEC_SA_DETAILS1 *in = plain_details(), *out = plain_details();
                numbered_name(first + i, units, text);
                in->saBundle.ipsecId = make_identity(make_name(units), make_name(units));
                numbered_name(NAMES - 1 - first - i, units, text); /* new up to the middle, known after it */
                out->saBundle.ipsecId = make_identity(make_name(u"the same for all"), make_name(units));
                contexts[i] = make_context(first + i, in, out);
            }
            CHECK_EQUAL(append_page(batch, make_page(version, contexts, PAGE), PAGE, NULL), WFPSA_OK);
            forget_pieces(); /* a batch keeps no pointer into a page */
        }
        CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
        CHECK_EQUAL(batch->strings.count, NAMES + 1);
        CHECK_EQUAL(batch->length, NAMES);
        for (uint32_t i = 0; i < NAMES; i++) {
            size_t size = numbered_name(i, units, text);
            CHECK_EQUAL(U32(batch, main_mode_target_in, i), U32(batch, extended_mode_target_in, i));
            CHECK(name_is(batch, U32(batch, main_mode_target_in, i), text, size));
            CHECK(name_is(batch, U32(batch, extended_mode_target_out, NAMES - 1 - i), text, size));
            CHECK_EQUAL(U32(batch, main_mode_target_out, i), U32(batch, main_mode_target_out, 0));
        }
        CHECK(is_sound(batch));
        wfpsa_columns_release(batch);
    }
}

/* ---- keys ---- */

/* A context with a key in every place there is. */
static IPSEC_SA_CONTEXT1 *
context_with_keys(uint64_t id, uint32_t transform)
{
    IPSEC_SA_DETAILS1 *sides[2];
    for (uint32_t i = 0; i < 2; i++) {
        IPSEC_KEYMODULE_STATE0 state;
        uint16_t units[32];
        char text[32];
        IPSEC_SA0 sas[2] = {make_sa(1, transform, 1, 1, 1, 1), make_sa(2, (transform + i) % 5 + 1, 1, 1, 1, 1)};
        memset(&state, 0, sizeof state);
        state.stateBlob = key_blob(33, 33);
        sides[i] = bare_details();
        sides[i]->saBundle.saList = PIECE(sas);
        sides[i]->saBundle.numSAs = 2;
        sides[i]->saBundle.keyModuleState = PIECE(state);
        numbered_name((uint32_t)id * 2 + i, units, text);
        sides[i]->saBundle.ipsecId = make_identity(make_name(units), NULL);
    }
    return make_context(id, sides[0], sides[1]);
}

static void
every_key_and_state_in_a_page_is_wiped(void)
{
    for (uint32_t version = 0; version <= 1; version++) {
        IPSEC_SA_CONTEXT1 *contexts[5];
        for (uint32_t transform = 1; transform <= 5; transform++) {
            contexts[transform - 1] = context_with_keys(transform, transform);
        }
        CHECK(key_bytes_left() > 500);
        struct wfpsa_columns *batch = decode(version, contexts, 5);
        CHECK_EQUAL(key_bytes_left(), 0);
        wfpsa_columns_release(batch);
        forget_pieces();
    }
}

static void
the_keys_of_contexts_outside_the_subnets_are_wiped_too(void)
{
    struct wfpsa_subnets nowhere = {{6, 128, {1}}, {0, 0, {0}}};
    for (uint32_t version = 0; version <= 1; version++) {
        IPSEC_SA_CONTEXT1 *contexts[3] = {context_with_keys(1, 4), NULL, context_with_keys(2, 1)};
        struct wfpsa_columns *batch = wfpsa_columns_new(version);
        CHECK_EQUAL(append_page(batch, make_page(version, contexts, 3), 3, &nowhere), WFPSA_OK);
        CHECK_EQUAL(batch->length, 0);
        CHECK_EQUAL(key_bytes_left(), 0);
        wfpsa_columns_release(batch);
        forget_pieces();
    }
}

static void
keys_are_wiped_whichever_allocation_fails(void)
{
    enum { CONTEXTS = 150 }; /* more than two blocks, with more names than the first table holds */
    IPSEC_SA_CONTEXT1 *contexts[CONTEXTS];
    for (uint32_t i = 0; i < CONTEXTS; i++) {
        contexts[i] = context_with_keys(i, i % 5 + 1);
    }
    for (uint32_t version = 0; version <= 1; version++) {
        void *page = make_page(version, contexts, CONTEXTS);
        uint64_t nth = 0;
        int struck = 1, status;
        while (struck) {
            struct wfpsa_columns *batch = wfpsa_columns_new(version);
            refill_keys();
            wfpsa_embedded_fail_allocation(++nth);
            status = append_page(batch, page, CONTEXTS, NULL);
            struck = failure_struck(nth);
            CHECK_EQUAL(status, struck ? WFPSA_NO_MEMORY : WFPSA_OK);
            CHECK(status == WFPSA_OK || batch->length <= CONTEXTS);
            CHECK_EQUAL(key_bytes_left(), 0);
            wfpsa_columns_release(batch);
        }
        CHECK(nth > WFPSA_COLUMN_COUNT / 2); /* it did walk through something */
    }
    forget_pieces();
}

static void
a_blob_is_believed_only_as_far_as_a_key_can_reach(void)
{
    for (uint32_t version = 0; version <= 1; version++) {
        IPSEC_SA_DETAILS1 *details = bare_details();
        IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 both;
        IPSEC_KEYMODULE_STATE0 state;
        IPSEC_SA0 sa = {1, IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER, {NULL}};
        memset(&both, 0, sizeof both);
        memset(&state, 0, sizeof state);
        both.saAuthInformation.authKey = key_blob(UINT32_MAX, 256);
        both.saCipherInformation.cipherKey = key_blob(257, 256);
        state.stateBlob = key_blob(UINT32_MAX, 65536);
        sa.espAuthAndCipherInformation = PIECE(both);
        details->saBundle.numSAs = 1;
        details->saBundle.saList = PIECE(sa);
        details->saBundle.keyModuleState = PIECE(state);
        IPSEC_SA_CONTEXT1 *context = make_context(1, details, NULL);
        struct wfpsa_columns *batch = decode(version, &context, 1);
        CHECK_EQUAL(key_bytes_left(), 0);
        wfpsa_columns_release(batch);
        forget_pieces();
    }
}

static void
a_blob_without_data_or_without_size_is_left_alone(void)
{
    IPSEC_SA_DETAILS1 *details = bare_details();
    IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0 both;
    IPSEC_KEYMODULE_STATE0 state;
    IPSEC_SA0 sa = {1, IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER, {NULL}};
    memset(&both, 0, sizeof both);
    memset(&state, 0, sizeof state);
    both.saAuthInformation.authKey.size = 20; /* NULL data */
    both.saCipherInformation.cipherKey.data = wild();
    state.stateBlob.data = wild();
    sa.espAuthAndCipherInformation = PIECE(both);
    details->saBundle.numSAs = 1;
    details->saBundle.saList = PIECE(sa);
    details->saBundle.keyModuleState = PIECE(state);
    IPSEC_SA_CONTEXT1 *context = make_context(1, details, details);
    struct wfpsa_columns *batch = decode(1, &context, 1);
    CHECK_EQUAL(batch->length, 1);
    wfpsa_columns_release(batch);
    forget_pieces();
}

/* ---- subnets ---- */

static void
a_context_is_kept_where_one_of_its_sas_lies_in_both_subnets(void)
{
    static const struct {
        struct wfpsa_subnets subnets;
        int kept; /* of the contexts below: bits */
    } cases[] = {
        {{{4, 0, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF"}, {0, 0, {0}}}, 0x07},
        {{{0, 0, {0}}, {4, 0, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF"}}, 0x07},
        {{{0, 0, {0}}, {6, 0, {0}}}, 0x08},
        {{{4, 24, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\x00\x00"}, {0, 0, {0}}}, 0x03},
        {{{4, 32, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\x00\x00\x01"}, {0, 0, {0}}}, 0x03},
        {{{4, 32, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\x00\x00\x00"}, {0, 0, {0}}}, 0x00},
        {{{4, 31, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\x00\x00\x00"}, {0, 0, {0}}}, 0x03},
        {{{0, 0, {0}}, {4, 8, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0B"}}, 0x02},
        {{{4, 8, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A"}, {4, 32, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0B\x00\x00\x02"}}, 0x02},
        {{{4, 8, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xC0"}, {4, 8, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0B"}}, 0x00},
        {{{6, 33, "\x20\x01\x0D\xB8\x7F"}, {0, 0, {0}}}, 0x08},
        {{{6, 33, "\x20\x01\x0D\xB8\x80"}, {0, 0, {0}}}, 0x00},
        {{{6, 128, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01"}, {6, 127, "\xFD"}}, 0x08},
        {{{6, 128, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x02"}, {0, 0, {0}}}, 0x00},
        {{{6, 96, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF"}, {0, 0, {0}}}, 0x00}, /* mapped is IPv4, not IPv6 */
        {{{4, 0, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF"}, {6, 0, {0}}}, 0x00},
        {{{0, 0, {0}}, {0, 0, {0}}}, 0x1F}, /* any address, an unknown version's too */
    };
    IPSEC_SA_DETAILS1 *both = plain_details(), *other = plain_details(), *elsewhere = plain_details();
    IPSEC_SA_DETAILS1 *v6 = plain_details(), *unknown = plain_details();
    other->traffic.remoteV4Address = 0x0B000002;
    elsewhere->traffic.localV4Address = 0xC0000201;
    v6->traffic.ipVersion = FWP_IP_VERSION_V6;
    memcpy(v6->traffic.localV6Address, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    memcpy(v6->traffic.remoteV6Address, "\xFD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    unknown->traffic.ipVersion = FWP_IP_VERSION_NONE;
    IPSEC_SA_CONTEXT1 *contexts[6] = {make_context(0, both, both),      make_context(1, other, both),
                                      make_context(2, elsewhere, NULL), make_context(3, v6, NULL),
                                      make_context(4, NULL, unknown),   make_context(5, NULL, NULL)};
    for (uint32_t version = 0; version <= 1; version++) {
        for (size_t i = 0; i < COUNT(cases); i++) {
            struct wfpsa_columns *batch = wfpsa_columns_new(version);
            int kept = 0;
            CHECK_EQUAL(append_page(batch, make_page(version, contexts, 6), 6, &cases[i].subnets), WFPSA_OK);
            for (uint64_t row = 0; row < batch->length; row++) {
                kept |= 1 << U64(batch, context_id, row);
            }
            CHECK_EQUAL(kept & 0x1F, cases[i].kept);
            wfpsa_columns_release(batch);
        }
    }
    forget_pieces();
}

/* ---- building ---- */

static void
rows_are_whole_and_in_order_at_every_length(void)
{
    static const uint32_t lengths[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 1000};
    static const uint32_t page_sizes[] = {1, 7, 64, 1000};
    IPSEC_SA_CONTEXT1 *contexts[1000];
    for (uint32_t i = 0; i < 1000; i++) {
        IPSEC_SA_DETAILS1 *in = i % 3 ? plain_details() : NULL, *out = i % 5 ? plain_details() : NULL;
        if (in) {
            in->saBundle.saList[0].spi = i * 3 + 1;
            in->traffic.remoteV4Address = i;
        }
        if (out) {
            out->saBundle.saList[0].spi = i * 3 + 2;
            out->traffic.remoteV4Address = i;
        }
        contexts[i] = make_context((uint64_t)i << 33, in, out);
    }
    for (uint32_t version = 0; version <= 1; version++) {
        void **page = make_page(version, contexts, 1000);
        for (size_t l = 0; l < COUNT(lengths); l++) {
            for (size_t p = 0; p < COUNT(page_sizes); p++) {
                struct wfpsa_columns *batch = wfpsa_columns_new(version);
                for (uint32_t at = 0; at < lengths[l]; at += page_sizes[p]) {
                    uint32_t left = lengths[l] - at;
                    uint32_t count = left < page_sizes[p] ? left : page_sizes[p];
                    CHECK_EQUAL(append_page(batch, page + at, count, NULL), WFPSA_OK);
                }
                CHECK_EQUAL(append_page(batch, NULL, 0, NULL), WFPSA_OK); /* the empty page at the end */
                CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
                CHECK_EQUAL(batch->length, lengths[l]);
                for (uint32_t i = 0; i < batch->length; i++) {
                    CHECK_EQUAL(U64(batch, context_id, i), (uint64_t)i << 33);
                    CHECK_EQUAL(U32(batch, spi_in, i), i % 3 ? i * 3 + 1 : 0);
                    CHECK_EQUAL(U32(batch, spi_out, i), i % 5 ? i * 3 + 2 : 0);
                    CHECK_EQUAL(ABSENT(batch, spi_in, i), i % 3 == 0);
                    CHECK_EQUAL(ABSENT(batch, remote_address, i), i % 15 == 0);
                    CHECK_EQUAL(BYTES16(batch, remote_address, i)[15], i % 15 ? i & 0xFF : 0);
                }
                CHECK(is_sound(batch));
                wfpsa_columns_release(batch);
            }
        }
    }
    forget_pieces();
}

static void
freezing_ends_the_building_and_gives_back_what_is_spare(void)
{
    IPSEC_SA_CONTEXT1 *context = make_context(1, full_details(0x51000, u"host/a", u"b"), NULL);
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = wfpsa_columns_new(version);
        void *page = make_page(version, &context, 1);
        for (int i = 0; i < 70; i++) {
            CHECK_EQUAL(append_page(batch, page, 1, NULL), WFPSA_OK);
        }
        struct wfpsa_live before, after;
        wfpsa_embedded_live(&before);
        CHECK(batch->builder != NULL && batch->capacity >= 70);
        CHECK_EQUAL(wfpsa_columns_freeze(batch), WFPSA_OK);
        wfpsa_embedded_live(&after);
        CHECK(batch->builder == NULL);
        CHECK(after.allocations < before.allocations);
        CHECK_EQUAL(batch->length, 70);
        CHECK(batch->capacity - batch->length <= batch->length / 16);

        uint64_t bytes = 70;
        for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
            bytes += batch->columns[i] ? 70 * wfpsa_column_info(i)->width : 0;
        }
        CHECK_EQUAL(wfpsa_columns_bytes(batch, batch->length), bytes + 4 * 4 + 7);
        wfpsa_columns_release(batch);
    }
    struct wfpsa_columns *empty = wfpsa_columns_new(1);
    CHECK_EQUAL(wfpsa_columns_freeze(empty), WFPSA_OK);
    CHECK_EQUAL(empty->length, 0);
    CHECK_EQUAL(wfpsa_columns_bytes(empty, 0), 8);
    wfpsa_columns_release(empty);
    forget_pieces();
}

static void
a_row_takes_no_more_than_360_bytes(void)
{
    uint64_t bytes = 1;
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        bytes += wfpsa_column_info(i)->width;
    }
    CHECK(bytes <= 360);
}

static void
a_batch_lives_until_its_last_reference_is_released(void)
{
    IPSEC_SA_CONTEXT1 *context = make_context(9, NULL, NULL);
    struct wfpsa_columns *batch = decode(0, &context, 1);
    wfpsa_columns_retain(batch);
    wfpsa_columns_retain(batch);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(batch);
    CHECK_EQUAL(U64(batch, context_id, 0), 9);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(NULL);
    forget_pieces();
}

static void
an_unfinished_batch_can_be_released(void)
{
    IPSEC_SA_CONTEXT1 *context = make_context(1, full_details(0x51000, u"m", u"e"), NULL);
    struct wfpsa_columns *batch = wfpsa_columns_new(1);
    CHECK_EQUAL(append_page(batch, make_page(1, &context, 1), 1, NULL), WFPSA_OK);
    wfpsa_columns_release(batch);
    wfpsa_columns_release(wfpsa_columns_new(0));
    forget_pieces();
}

static void
a_batch_of_given_rows_has_the_wanted_columns_and_the_given_names(void)
{
    static const int32_t offsets[] = {0, 0, 3, 3, 8};
    uint8_t wanted[WFPSA_COLUMN_COUNT] = {0};
    wanted[WFPSA_COLUMN_context_id] = 1;
    wanted[WFPSA_COLUMN_main_mode_target_in] = 1;
    wanted[WFPSA_COLUMN_virtual_tunnel_id_out] = 1; /* of version 1: the caller's word counts */
    struct wfpsa_columns *batch = wfpsa_columns_new_rows(0, wanted, 3);
    CHECK_EQUAL(batch->length, 3);
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        CHECK_EQUAL(batch->columns[i] != NULL, wanted[i]);
    }
    CHECK_EQUAL(wfpsa_columns_set_strings(batch, 3, offsets, "abcdefgh"), WFPSA_OK);
    CHECK_EQUAL(batch->strings.count, 3);
    CHECK(name_is(batch, 1, "abc", 3) && name_is(batch, 2, "", 0) && name_is(batch, 3, "defgh", 5));
    CHECK_EQUAL(wfpsa_columns_set_strings(batch, 0, NULL, NULL), WFPSA_OK);
    CHECK_EQUAL(batch->strings.count, 0);
    CHECK_EQUAL(wfpsa_columns_bytes(batch, batch->length), 3 * (1 + 8 + 4 + 8) + 8);
    wfpsa_columns_release(batch);

    batch = wfpsa_columns_new_rows(0, NULL, 0);
    CHECK(batch->columns[WFPSA_COLUMN_context_id] != NULL && batch->columns[WFPSA_COLUMN_local_port] == NULL);
    wfpsa_columns_release(batch);
    CHECK(wfpsa_columns_new_rows(1, NULL, UINT64_MAX / 16) == NULL); /* more than there is */
    CHECK(wfpsa_columns_new_rows(1, NULL, UINT64_MAX / 2) == NULL);
}

/* ---- queries ---- */

/* 100 contexts in which every column varies. */
static struct wfpsa_columns *
varied_batch(uint32_t version)
{
    IPSEC_SA_CONTEXT1 *contexts[100];
    for (uint32_t i = 0; i < 100; i++) {
        uint16_t units[32];
        char text[32];
        numbered_name(i % 7, units, text);
        contexts[i] = make_context(i + 1, i % 4 == 1 ? NULL : full_details(0x51000 + i * 32, units, u"e"),
                                   i % 5 == 1 ? NULL : full_details(0x91000 + i * 32, u"m", units));
    }
    struct wfpsa_columns *batch = decode(version, contexts, 100);
    forget_pieces();
    return batch;
}

/* How many distinct names the cells refer to. */
static uint64_t
names_used(const struct wfpsa_columns *columns)
{
    uint64_t used = 0;
    for (uint32_t code = 1; code <= columns->strings.count; code++) {
        int found = 0;
        for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
            const uint32_t *cells = columns->columns[i];
            for (uint64_t row = 0; cells && wfpsa_column_info(i)->kind == WFPSA_TEXT && row < columns->length; row++) {
                found |= cells[row] == code;
            }
        }
        used += (uint64_t)found;
    }
    return used;
}

static void
check_taken(const struct wfpsa_columns *from, uint64_t start, int64_t step, const uint64_t *rows, uint64_t count)
{
    struct wfpsa_columns *taken = wfpsa_take(from, start, step, rows, count);
    if (!CHECK(taken != NULL)) {
        return;
    }
    CHECK_EQUAL(taken->length, count);
    CHECK_EQUAL(taken->version, from->version);
    CHECK(taken->builder == NULL);
    CHECK_EQUAL(taken->strings.count, names_used(taken));
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = (uint64_t)((int64_t)start + step * (int64_t)(rows ? rows[i] : i));
        CHECK_EQUAL(U64(taken, context_id, i), U64(from, context_id, row));
        CHECK_EQUAL(taken->presence[i], from->presence[row]);
        CHECK(wfpsa_rows_equal(taken, i, from, row, NULL));
    }
    for (uint32_t i = 0; i < WFPSA_COLUMN_COUNT; i++) {
        CHECK_EQUAL(taken->columns[i] != NULL, from->columns[i] != NULL);
    }
    CHECK(is_sound(taken));
    wfpsa_columns_release(taken);
}

static void
taking_gathers_rows_in_any_order(void)
{
    static const uint64_t rows[] = {3, 0, 3, 29, 11};
    for (uint32_t version = 0; version <= 1; version++) {
        struct wfpsa_columns *batch = varied_batch(version);
        check_taken(batch, 0, 1, NULL, 100);
        check_taken(batch, 37, 1, NULL, 9);
        check_taken(batch, 99, -1, NULL, 100);
        check_taken(batch, 98, -7, NULL, 15);
        check_taken(batch, 1, 3, NULL, 33);
        check_taken(batch, 0, 0, NULL, 4);
        check_taken(batch, 0, 1, rows, COUNT(rows));
        check_taken(batch, 5, 2, rows, COUNT(rows));
        check_taken(batch, 99, -3, rows, COUNT(rows));
        check_taken(batch, 100, 1, NULL, 0);
        check_taken(batch, 0, 1, rows, 0);
        wfpsa_columns_release(batch);
    }
}

static void
what_was_taken_outlives_what_it_was_taken_from(void)
{
    struct wfpsa_columns *batch = varied_batch(1), *same = varied_batch(1);
    struct wfpsa_columns *taken = wfpsa_take(batch, 10, 1, NULL, 5);
    wfpsa_columns_release(batch);
    for (uint64_t i = 0; i < 5; i++) {
        CHECK(wfpsa_rows_equal(taken, i, same, 10 + i, NULL));
    }
    wfpsa_columns_release(taken);
    wfpsa_columns_release(same);
}

static void
rows_differ_where_any_one_column_does(void)
{
    struct wfpsa_columns *a = varied_batch(1), *b = varied_batch(1);
    uint8_t wanted[WFPSA_COLUMN_COUNT];
    CHECK(same_rows(a, b));
    CHECK(!wfpsa_rows_equal(a, 0, b, 2, NULL));
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        const struct wfpsa_column_info *info = wfpsa_column_info(column);
        uint8_t *cell = (uint8_t *)b->columns[column] + 3 * info->width, old = *cell;
        if (info->kind == WFPSA_TEXT) {
            *cell = old == 1 ? 2 : 1;
        } else {
            *cell ^= 1;
        }
        CHECK(!wfpsa_rows_equal(a, 3, b, 3, NULL));
        CHECK(!wfpsa_rows_equal(b, 3, a, 3, NULL));
        memset(wanted, 1, sizeof wanted);
        wanted[column] = 0;
        CHECK(wfpsa_rows_equal(a, 3, b, 3, wanted));
        memset(wanted, 0, sizeof wanted);
        wanted[column] = 1;
        CHECK(!wfpsa_rows_equal(a, 3, b, 3, wanted));
        CHECK(wfpsa_rows_equal(a, 4, b, 4, wanted));
        *cell = old;
    }
    b->presence[3] &= (uint8_t)~WFPSA_PRESENT_SECOND_OUT; /* absent and 0 are not the same */
    CHECK(!wfpsa_rows_equal(a, 3, b, 3, NULL));
    wfpsa_columns_release(a);
    wfpsa_columns_release(b);
}

static void
rows_are_compared_by_text_and_on_common_columns(void)
{
    IPSEC_SA_DETAILS1 *first = plain_details(), *second = plain_details();
    first->saBundle.ipsecId = make_identity(make_name(u"one"), NULL);
    second->saBundle.ipsecId = make_identity(make_name(u"two"), make_name(u"one"));
    IPSEC_SA_CONTEXT1 *forth[2] = {make_context(1, first, NULL), make_context(2, NULL, second)};
    IPSEC_SA_CONTEXT1 *back[2] = {forth[1], forth[0]};
    struct wfpsa_columns *a = decode(1, forth, 2), *b = decode(1, back, 2), *old = decode(0, forth, 2);
    CHECK(U32(a, main_mode_target_in, 0) != U32(b, main_mode_target_in, 1)); /* codes belong to one batch */
    CHECK(wfpsa_rows_equal(a, 0, b, 1, NULL) && wfpsa_rows_equal(a, 1, b, 0, NULL));
    CHECK(!wfpsa_rows_equal(a, 0, b, 0, NULL));
    CHECK(wfpsa_rows_equal(a, 0, old, 0, NULL) && wfpsa_rows_equal(old, 1, a, 1, NULL));
    wfpsa_columns_release(a);
    wfpsa_columns_release(b);
    wfpsa_columns_release(old);
    forget_pieces();
}

int
main(void)
{
    RUN(every_column_is_described_once);
    RUN(version_0_lacks_the_columns_of_version_1);
    RUN(each_field_reaches_its_column);
    RUN(ipv6_addresses_are_taken_as_they_are);
    RUN(the_row_shows_the_outbound_traffic_and_says_where_the_inbound_differs);
    RUN(one_sided_and_half_built_contexts_lack_what_belongs_to_the_missing_side);
    RUN(a_missing_side_leaves_nothing_of_the_row_that_was_decoded_before_in_its_place);
    RUN(null_pointers_are_not_followed);
    RUN(a_spi_of_zero_is_there_and_a_missing_one_is_not);
    RUN(only_the_parts_that_a_transform_has_are_read);
    RUN(a_number_of_sas_is_believed_up_to_two);
    RUN(unknown_enum_values_are_kept_up_to_253_and_then_out_of_range);
    RUN(an_unknown_ip_version_is_named_other_and_has_no_addresses);
    RUN(a_null_entry_in_a_page_is_passed_over);
    RUN(names_become_utf8_and_an_unpaired_surrogate_the_replacement_character);
    RUN(an_empty_name_is_a_name_and_a_missing_one_is_absent);
    RUN(a_name_of_32767_units_is_whole_and_a_longer_one_is_cut);
    RUN(names_of_every_length_are_read_to_their_end_and_no_further);
    RUN(thousands_of_names_are_kept_once_each);
    RUN(every_key_and_state_in_a_page_is_wiped);
    RUN(the_keys_of_contexts_outside_the_subnets_are_wiped_too);
    RUN(keys_are_wiped_whichever_allocation_fails);
    RUN(a_blob_is_believed_only_as_far_as_a_key_can_reach);
    RUN(a_blob_without_data_or_without_size_is_left_alone);
    RUN(a_context_is_kept_where_one_of_its_sas_lies_in_both_subnets);
    RUN(rows_are_whole_and_in_order_at_every_length);
    RUN(freezing_ends_the_building_and_gives_back_what_is_spare);
    RUN(a_row_takes_no_more_than_360_bytes);
    RUN(a_batch_lives_until_its_last_reference_is_released);
    RUN(an_unfinished_batch_can_be_released);
    RUN(a_batch_of_given_rows_has_the_wanted_columns_and_the_given_names);
    RUN(taking_gathers_rows_in_any_order);
    RUN(what_was_taken_outlives_what_it_was_taken_from);
    RUN(rows_differ_where_any_one_column_does);
    RUN(rows_are_compared_by_text_and_on_common_columns);
    return closing_line();
}
