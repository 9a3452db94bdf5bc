/* The columnar batch, and the one list of its columns: name, kind, absence, first version, enumeration, source, note.
 *
 * A batch is filled page by page from arrays of IPSEC_SA_CONTEXT structures and then frozen; frozen batches are
 * immutable and may be read from any thread. No column holds key material, key-module state, tokens or credentials.
 */
#ifndef WFPSA_COLUMNS_H
#define WFPSA_COLUMNS_H

#include <stddef.h>
#include <stdint.h>

struct IPSEC_SA_CONTEXT0_;
struct IPSEC_SA_CONTEXT1_;

/* Outcome of a function of this library. */
enum wfpsa_status {
    WFPSA_OK = 0,
    WFPSA_CALL_FAILED = 1, /* a call of the engine table failed: struct wfpsa_failure has which and why */
    WFPSA_NO_MEMORY = 2,
    WFPSA_CLOSED = 3, /* the session was closed */
    WFPSA_FORKED = 4  /* the session was opened by another process */
};

/* How a column is stored. */
enum wfpsa_kind {
    WFPSA_BOOL, /* uint8_t, 0 or 1 */
    WFPSA_U8,
    WFPSA_U16,
    WFPSA_U32,
    WFPSA_U64,
    WFPSA_ENUM,    /* uint8_t: 0 to 253 as given, 254 out of range, 255 absent */
    WFPSA_IPV4,    /* uint32_t, host order */
    WFPSA_ADDRESS, /* 16 bytes, network order, IPv4 as ::ffff:a.b.c.d */
    WFPSA_GUID,    /* 16 bytes as in memory: Data1 to Data3 little-endian (uuid.UUID's bytes_le) */
    WFPSA_TEXT     /* uint32_t code into the batch's strings, 0 absent */
};

/* When a cell holds no value. The raw cell is then 0, and 255 in enum columns. */
enum wfpsa_absence {
    WFPSA_NEVER,
    WFPSA_NO_SA,        /* neither direction has an SA */
    WFPSA_NO_ADDRESS,   /* neither direction has one, or the IP version is not 4 or 6 */
    WFPSA_NO_DIRECTION, /* this direction has no SA */
    WFPSA_NO_FIRST,     /* its saList is NULL or empty */
    WFPSA_NO_SECOND,    /* its saList has no second SA */
    WFPSA_ZERO,         /* the cell itself is 0 */
    WFPSA_CODE_255      /* the cell itself is 255 */
};

#define WFPSA_ENUM_OUT_OF_RANGE 254
#define WFPSA_ENUM_ABSENT 255
#define WFPSA_IP_VERSION_OTHER 254

/* X(name, kind, absence, version, enumeration, source, note)
 * version: 0 = in both structure versions, 1 = only from IPSEC_SA_CONTEXT1. */
#define WFPSA_CONTEXT_COLUMNS(X)                                                                                      \
    X(context_id, U64, NEVER, 0, "", "saContextId", "run-time id of the context; not persistent")                     \
    X(has_inbound, BOOL, NEVER, 0, "", "inboundSa", "whether there is an inbound SA")                                 \
    X(has_outbound, BOOL, NEVER, 0, "", "outboundSa", "whether there is an outbound SA")                              \
    X(ip_version, U8, NO_SA, 0, "", "traffic.ipVersion", "4, 6, or 254 for any other")                                \
    X(traffic_type, ENUM, NO_SA, 0, "TrafficType", "traffic.trafficType", "transport or tunnel")                      \
    X(local_address, ADDRESS, NO_ADDRESS, 0, "", "traffic.localV4Address / localV6Address",                           \
      "network order, IPv4 as ::ffff:a.b.c.d; the outer endpoint in tunnel mode")                                     \
    X(remote_address, ADDRESS, NO_ADDRESS, 0, "", "traffic.remoteV4Address / remoteV6Address",                        \
      "network order, IPv4 as ::ffff:a.b.c.d; the outer endpoint in tunnel mode")                                     \
    X(local_port, U16, NO_SA, 1, "", "traffic.localPort", "host order; 0 = any")                                      \
    X(remote_port, U16, NO_SA, 0, "", "traffic.remotePort", "host order; 0 = any")                                    \
    X(ip_protocol, U8, NO_SA, 1, "", "traffic.ipProtocol", "IANA number; 0 = any")                                    \
    X(local_interface_luid, U64, NO_SA, 1, "", "traffic.localIfLuid", "LUID of the local interface")                  \
    X(real_profile_id, U32, NO_SA, 1, "", "traffic.realIfProfileId", "profile of the real interface")                 \
    X(traffic_differs, BOOL, NEVER, 0, "", "both traffics",                                                           \
      "the two directions disagree on addresses, ports or protocol; the row shows the outbound's")

/* The same, once for each direction: the column's name gets the suffix _in or _out. */
#define WFPSA_SA_COLUMNS(X)                                                                                           \
    X(spi, U32, NO_FIRST, 0, "", "saBundle.saList[0].spi", "host order")                                              \
    X(ah_spi, U32, NO_SECOND, 0, "", "saBundle.saList[1].spi", "host order; the AH SA of ESP plus AH")                \
    X(sa_count, U8, NO_DIRECTION, 0, "", "saBundle.numSAs", "254 = that or more")                                     \
    X(transform, ENUM, CODE_255, 0, "TransformType", "saBundle.saList[0].saTransformType", "of the first SA")         \
    X(auth_type, ENUM, CODE_255, 0, "AuthType", "saBundle.saList[0] authTransformId.authType",                        \
      "absent where the transform does not authenticate")                                                             \
    X(auth_config, ENUM, CODE_255, 0, "AuthConfig", "saBundle.saList[0] authTransformId.authConfig",                  \
      "absent where the transform does not authenticate")                                                             \
    X(cipher_type, ENUM, CODE_255, 0, "CipherType", "saBundle.saList[0] cipherTransformId.cipherType",                \
      "absent where the transform does not encrypt")                                                                  \
    X(cipher_config, ENUM, CODE_255, 0, "CipherConfig", "saBundle.saList[0] cipherTransformId.cipherConfig",          \
      "absent where the transform does not encrypt")                                                                  \
    X(ah_auth_type, ENUM, CODE_255, 0, "AuthType", "saBundle.saList[1] authTransformId.authType", "of the second SA") \
    X(ah_auth_config, ENUM, CODE_255, 0, "AuthConfig", "saBundle.saList[1] authTransformId.authConfig",               \
      "of the second SA")                                                                                             \
    X(bundle_flags, U32, NO_DIRECTION, 0, "", "saBundle.flags", "IPSEC_SA_BUNDLE_FLAG_* bits")                        \
    X(lifetime_seconds, U32, NO_DIRECTION, 0, "", "saBundle.lifetime.lifetimeSeconds", "seconds; 0 = no limit")       \
    X(lifetime_kilobytes, U32, NO_DIRECTION, 0, "", "saBundle.lifetime.lifetimeKilobytes", "kilobytes; 0 = no limit") \
    X(lifetime_packets, U32, NO_DIRECTION, 0, "", "saBundle.lifetime.lifetimePackets",                                \
      "packets; 0 = no limit and no replay check")                                                                    \
    X(idle_timeout_seconds, U32, NO_DIRECTION, 0, "", "saBundle.idleTimeoutSeconds", "seconds; 0 = never idles out")  \
    X(nd_allow_clear_timeout_seconds, U32, NO_DIRECTION, 0, "", "saBundle.ndAllowClearTimeoutSeconds", "seconds")     \
    X(nap_context, U32, NO_DIRECTION, 0, "", "saBundle.napContext", "as given")                                       \
    X(qm_sa_id, U32, NO_DIRECTION, 0, "", "saBundle.qmSaId", "id of the quick-mode pair; equal on both machines")     \
    X(mm_sa_id, U64, NO_DIRECTION, 0, "", "saBundle.mmSaId", "id of the main-mode SA")                                \
    X(pfs_group, ENUM, CODE_255, 0, "PfsGroup", "saBundle.pfsGroup", "Diffie-Hellman group of the quick mode")        \
    X(qm_filter_id, U64, NO_DIRECTION, 1, "", "saBundle.qmFilterId", "LUID of the quick-mode filter")                 \
    X(lookup_context, GUID, ZERO, 1, "", "saBundle.saLookupContext", "GUID given to the SA lookup")                   \
    X(filter_id, U64, NO_DIRECTION, 0, "", "traffic.ipsecFilterId / tunnelPolicyId",                                  \
      "LUID of the IPsec filter, in tunnel mode of the tunnel policy")                                                \
    X(transport_filter_id, U64, ZERO, 0, "", "transportFilter->filterId", "LUID of the transport-layer filter")       \
    X(udp_local_port, U16, ZERO, 0, "", "udpEncapsulation->localUdpEncapPort", "host order; NAT-T over IPv4 only")    \
    X(udp_remote_port, U16, ZERO, 0, "", "udpEncapsulation->remoteUdpEncapPort", "host order; NAT-T over IPv4 only")  \
    X(peer_private_address, IPV4, ZERO, 0, "", "saBundle.peerV4PrivateAddress",                                       \
      "host order; the peer's address behind its NAT")                                                                \
    X(key_module, GUID, ZERO, 0, "", "saBundle.keyModuleState->keyModuleKey", "GUID of the keying module")            \
    X(virtual_tunnel_id, U64, ZERO, 1, "", "virtualIfTunnelInfo.virtualIfTunnelId", "IKEv2 only")                     \
    X(traffic_selector_id, U64, ZERO, 1, "", "virtualIfTunnelInfo.trafficSelectorId", "IKEv2 only")                   \
    X(main_mode_target, TEXT, ZERO, 0, "", "saBundle.ipsecId->mmTargetName",                                          \
      "the peer's main-mode identity; trustworthy only on the initiator")                                             \
    X(extended_mode_target, TEXT, ZERO, 0, "", "saBundle.ipsecId->emTargetName",                                      \
      "the peer's extended-mode identity; trustworthy only on the initiator")

/* WFPSA_COLUMN_context_id, ..., WFPSA_COLUMN_spi_in, ..., WFPSA_COLUMN_spi_out, ..., WFPSA_COLUMN_COUNT */
#define WFPSA_COLUMN_NAME(name, kind, absence, version, enumeration, source, note) WFPSA_COLUMN_##name,
#define WFPSA_COLUMN_NAME_IN(name, kind, absence, version, enumeration, source, note) WFPSA_COLUMN_##name##_in,
#define WFPSA_COLUMN_NAME_OUT(name, kind, absence, version, enumeration, source, note) WFPSA_COLUMN_##name##_out,
enum wfpsa_column {
    WFPSA_CONTEXT_COLUMNS(WFPSA_COLUMN_NAME) WFPSA_SA_COLUMNS(WFPSA_COLUMN_NAME_IN)
        WFPSA_SA_COLUMNS(WFPSA_COLUMN_NAME_OUT) WFPSA_COLUMN_COUNT
};
#undef WFPSA_COLUMN_NAME
#undef WFPSA_COLUMN_NAME_IN
#undef WFPSA_COLUMN_NAME_OUT

enum wfpsa_direction { WFPSA_BOTH_DIRECTIONS, WFPSA_INBOUND, WFPSA_OUTBOUND };

struct wfpsa_column_info {
    const char *name;      /* with its suffix */
    const char *attribute; /* without: the name under SaContext or SaDetails */
    enum wfpsa_kind kind;
    enum wfpsa_absence absence;
    enum wfpsa_direction direction;
    uint8_t version;         /* first structure version that has it */
    uint8_t width;           /* bytes a cell */
    uint8_t presence;        /* bits of the presence byte of which one must be set, 0 where they do not decide */
    const char *enumeration; /* the Python enumeration, "" for none */
    const char *source;      /* the SDK's field, from IPSEC_SA_CONTEXT or IPSEC_SA_DETAILS downwards */
    const char *note;        /* unit, order, meaning */
};

/* What is there, a byte a context: absence is decided from it, whichever columns were kept. */
enum wfpsa_presence {
    WFPSA_PRESENT_INBOUND = 0x01,
    WFPSA_PRESENT_OUTBOUND = 0x02,
    WFPSA_PRESENT_ADDRESS = 0x04,
    WFPSA_PRESENT_FIRST_IN = 0x10,
    WFPSA_PRESENT_FIRST_OUT = 0x20,
    WFPSA_PRESENT_SECOND_IN = 0x40,
    WFPSA_PRESENT_SECOND_OUT = 0x80
};

/* By absence: bits of the presence byte of which one must be set for a value to be there; for columns of both
 * directions, of the inbound one (1, 0), of the outbound one (0, 1). 0 where the cell itself decides. */
#define WFPSA_BITS_NEVER(in, out) 0
#define WFPSA_BITS_NO_SA(in, out) (WFPSA_PRESENT_INBOUND | WFPSA_PRESENT_OUTBOUND)
#define WFPSA_BITS_NO_ADDRESS(in, out) WFPSA_PRESENT_ADDRESS
#define WFPSA_BITS_NO_DIRECTION(in, out) ((in) * WFPSA_PRESENT_INBOUND | (out) * WFPSA_PRESENT_OUTBOUND)
#define WFPSA_BITS_NO_FIRST(in, out) ((in) * WFPSA_PRESENT_FIRST_IN | (out) * WFPSA_PRESENT_FIRST_OUT)
#define WFPSA_BITS_NO_SECOND(in, out) ((in) * WFPSA_PRESENT_SECOND_IN | (out) * WFPSA_PRESENT_SECOND_OUT)
#define WFPSA_BITS_ZERO(in, out) 0
#define WFPSA_BITS_CODE_255(in, out) 0

/* Bytes a cell, by kind. */
#define WFPSA_WIDTH_BOOL 1
#define WFPSA_WIDTH_U8 1
#define WFPSA_WIDTH_U16 2
#define WFPSA_WIDTH_U32 4
#define WFPSA_WIDTH_U64 8
#define WFPSA_WIDTH_ENUM 1
#define WFPSA_WIDTH_IPV4 4
#define WFPSA_WIDTH_ADDRESS 16
#define WFPSA_WIDTH_GUID 16
#define WFPSA_WIDTH_TEXT 4

/* Identity names, each once: code c (1 to count) is text[offsets[c]] up to offsets[c + 1]. Code 0 is the empty slot
 * offsets[0] = offsets[1] = 0. UTF-8, an unpaired surrogate as U+FFFD, names cut at 32767 UTF-16 units. */
struct wfpsa_strings {
    uint32_t count;
    int32_t *offsets; /* count + 2 */
    char *text;
};

/* Asked of wfpsa_columns_cells instead of a column: the bytes of enum wfpsa_presence. */
#define WFPSA_PRESENCE WFPSA_COLUMN_COUNT

struct wfpsa_columns;

/* What makes a batch a selection: rows of another batch, whose cells it gathers when they are first asked for. */
struct wfpsa_selection {
    struct wfpsa_columns *parent;           /* kept alive; itself no selection, so that these never chain */
    uint32_t *rows;                         /* of the parent */
    void *gathered[WFPSA_COLUMN_COUNT + 1]; /* the columns and the presence; NULL until wfpsa_columns_cells sets it */
};

/* One batch. Read `length`, `version` and `strings`, and the cells through the functions below: a selection has none
 * until they are asked for. The rest is the builder's. */
struct wfpsa_columns {
    uint64_t length;  /* contexts */
    uint32_t version; /* 0 or 1: the structures it was decoded from */
    void
        *columns[WFPSA_COLUMN_COUNT]; /* length cells each; NULL where the batch lacks the column; all in selections */
    uint8_t *presence;                /* length bytes of enum wfpsa_presence; NULL in selections */
    struct wfpsa_strings strings;     /* in selections their parent's */
    uint64_t capacity;
    volatile int64_t references;
    struct wfpsa_builder *builder;     /* NULL once frozen */
    struct wfpsa_selection *selection; /* NULL unless the batch is one */
};

/* A subnet; family 0 stands for any address. */
struct wfpsa_subnet {
    uint8_t family;        /* 0, 4 or 6 */
    uint8_t prefix_length; /* 0 to 32, 0 to 128 */
    uint8_t address[16];   /* network order, IPv4 as ::ffff:a.b.c.d */
};

/* Keeps a context where one of its SAs has its local and its remote address in the two subnets. */
struct wfpsa_subnets {
    struct wfpsa_subnet local;
    struct wfpsa_subnet remote;
};

/* The index-th column, NULL past the last. Owns: nothing. Threads: any. Blocks: no. Fails: never. */
const struct wfpsa_column_info *wfpsa_column_info(uint32_t index);

/* A new, empty, unfrozen batch of all columns of a structure version.
 * Owns: the caller holds the one reference. Threads: any. Blocks: no. Fails: NULL, out of memory. */
struct wfpsa_columns *wfpsa_columns_new(uint32_t version);

/* The same with only those columns for which wanted[column] is set (NULL: all of the version); the others cost neither
 * time nor memory. */
struct wfpsa_columns *wfpsa_columns_new_some(uint32_t version, const uint8_t *wanted);

/* A batch, already frozen, with the columns for which wanted[column] is set (NULL: all of the version) and as many
 * uninitialised rows as asked, for the caller to fill before anyone else sees it.
 * Owns, Threads, Blocks, Fails: as wfpsa_columns_new. */
struct wfpsa_columns *wfpsa_columns_new_rows(uint32_t version, const uint8_t *wanted, uint64_t rows);

/* Room for so many more rows, so that appending them need not find it step by step. Fails: WFPSA_NO_MEMORY. */
int wfpsa_columns_reserve(struct wfpsa_columns *columns, uint64_t rows);

/* Forgets all rows of an unfrozen batch without columns of text, and keeps their room. */
void wfpsa_columns_clear(struct wfpsa_columns *columns);

/* Appends the contexts of a page (those in `subnets`, where not NULL) and overwrites every key blob and key-module
 * state in the page with zeros, on failure as well. (Not the keys under a transform that the SDK does not name: where
 * they lie is not known.)
 * Owns: the page stays the caller's. Threads: one at a time. Blocks: no. Fails: WFPSA_NO_MEMORY; then the batch
 * holds an unspecified number of the page's contexts and is only good for wfpsa_columns_release. */
int wfpsa_columns_append0(struct wfpsa_columns *columns, struct IPSEC_SA_CONTEXT0_ *const *page, uint32_t count,
                          const struct wfpsa_subnets *subnets);
int wfpsa_columns_append1(struct wfpsa_columns *columns, struct IPSEC_SA_CONTEXT1_ *const *page, uint32_t count,
                          const struct wfpsa_subnets *subnets);

/* Overwrites the keys of a page that nobody will decode, as appending it does. Fails: never. */
void wfpsa_page_wipe0(struct IPSEC_SA_CONTEXT0_ *const *page, uint32_t count);
void wfpsa_page_wipe1(struct IPSEC_SA_CONTEXT1_ *const *page, uint32_t count);

/* Forgets the names of an unfrozen batch that neither its rows use nor those of `also`, an unfrozen batch whose cells
 * of text have the codes of the first one's names; unless there are few of these. Fails: WFPSA_NO_MEMORY; then all is
 * as it was. */
int wfpsa_columns_forget_names(struct wfpsa_columns *columns, struct wfpsa_columns *also);

/* Ends the building: gives back spare room and what only building needs. After it the batch is immutable.
 * Threads: one. Blocks: no. Fails: WFPSA_NO_MEMORY. */
int wfpsa_columns_freeze(struct wfpsa_columns *columns);

/* Sets the names of a batch made by wfpsa_columns_new_rows: offsets as in struct wfpsa_strings, copied.
 * Fails: WFPSA_NO_MEMORY. */
int wfpsa_columns_set_strings(struct wfpsa_columns *columns, uint32_t count, const int32_t *offsets, const char *text);

/* Bytes that a frozen batch holds for so many of its rows, and for all its strings. Of a selection: for the rows'
 * numbers and what it has gathered so far, not what it shares with the batch that it selects from. */
uint64_t wfpsa_columns_bytes(const struct wfpsa_columns *columns, uint64_t rows);

/* A batch lives until its last reference is released. Threads: any. NULL is allowed in release. */
void wfpsa_columns_retain(struct wfpsa_columns *columns);
void wfpsa_columns_release(struct wfpsa_columns *columns);

/* The length cells of a column of a frozen batch, or with WFPSA_PRESENCE its presence bytes; *cells is NULL where the
 * batch lacks the column. A selection gathers them the first time, for good.
 * Owns: the batch. Threads: any, at once. Blocks: no. Fails: WFPSA_NO_MEMORY, only for a selection. */
int wfpsa_columns_cells(const struct wfpsa_columns *columns, uint32_t column, const void **cells);

/* Where the cells of a row are: the batch itself; for a selection the batch that it selects from, and *row becomes the
 * row there. For who reads few rows and need not gather a column. */
static inline const struct wfpsa_columns *
wfpsa_columns_home(const struct wfpsa_columns *columns, uint64_t *row)
{
    if (columns->selection) {
        *row = columns->selection->rows[*row];
        return columns->selection->parent;
    }
    return columns;
}

static inline int
wfpsa_columns_has(const struct wfpsa_columns *columns, uint32_t column)
{
    return (columns->selection ? columns->selection->parent : columns)->columns[column] != NULL;
}

/* Whether the cell holds no value. The batch must have the column. */
static inline int
wfpsa_is_absent(const struct wfpsa_columns *columns, const struct wfpsa_column_info *info, uint32_t column,
                uint64_t row)
{
    const struct wfpsa_columns *home = wfpsa_columns_home(columns, &row);
    const uint8_t *cell;
    if (info->presence) {
        return (home->presence[row] & info->presence) == 0;
    }
    cell = (const uint8_t *)home->columns[column] + row * info->width;
    if (info->absence == WFPSA_CODE_255) {
        return *cell == WFPSA_ENUM_ABSENT;
    }
    if (info->absence == WFPSA_ZERO) {
        uint8_t any = 0;
        for (uint8_t i = 0; i < info->width; i++) {
            any |= cell[i];
        }
        return any == 0;
    }
    return 0;
}

#endif
