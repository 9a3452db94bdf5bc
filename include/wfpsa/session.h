/* One engine session that threads may share, and the loops over it: enumerate, get, delete, expire in mass, drain.
 *
 * Threads: every function but open and free may be called from any thread; calls of one session are served one at a
 *          time in the order they came. Never call these while holding the GIL.
 * Blocks:  for the call in flight, and as long as the engine takes.
 * Fails:   with an enum wfpsa_status; WFPSA_CALL_FAILED fills *failure.
 */
#ifndef WFPSA_SESSION_H
#define WFPSA_SESSION_H

#include "wfpsa/backends.h"
#include "wfpsa/columns.h"

struct wfpsa_session;
struct wfpsa_enumeration;

/* The OS function that failed, and its code. */
struct wfpsa_failure {
    uint32_t code;
    const char *function;
};

/* Opens a session: server_name is NULL on Windows and the name of a store for the embedded engine; lock_wait_ms is
 * txnWaitTimeoutInMSec (0: the engine's default, 0xFFFFFFFF: for ever).
 * Owns: the caller, until wfpsa_session_free. */
int wfpsa_session_open(const struct wfpsa_backend *backend, const uint16_t *server_name, uint32_t lock_wait_ms,
                       struct wfpsa_session **session, struct wfpsa_failure *failure);

/* Waits for the call in flight, destroys open enumerations and closes the engine handle; later calls return
 * WFPSA_CLOSED. Closing again does nothing, nor does closing in a forked child. */
int wfpsa_session_close(struct wfpsa_session *session, struct wfpsa_failure *failure);

/* Frees the memory of a session that was closed. In a forked child it does nothing: the lock may be held by a thread
 * that is not there. NULL is allowed. */
void wfpsa_session_free(struct wfpsa_session *session);

/* Appends the context with that id to the batch. */
int wfpsa_session_get(struct wfpsa_session *session, uint64_t id, struct wfpsa_columns *columns,
                      struct wfpsa_failure *failure);

int wfpsa_session_delete(struct wfpsa_session *session, uint64_t id, struct wfpsa_failure *failure);

/* A step of an explicit transaction: a session has one at most, and it holds the engine's lock. */
enum wfpsa_transaction { WFPSA_BEGIN, WFPSA_BEGIN_READ_ONLY, WFPSA_COMMIT, WFPSA_ABORT };
int wfpsa_session_transaction(struct wfpsa_session *session, enum wfpsa_transaction step,
                              struct wfpsa_failure *failure);

/* IPSEC_STATISTICS1: X(structure, field, name). All are totals of the system since its start, but for the active_* and
 * the pending ones; those of 32 bits in the OS's structure wrap. */
#define WFPSA_STATISTICS(X)                                                                                           \
    X(aggregateSaStatistics, activeSas, active_sas)                                                                   \
    X(aggregateSaStatistics, pendingSaNegotiations, pending_sa_negotiations)                                          \
    X(aggregateSaStatistics, totalSasAdded, total_sas_added)                                                          \
    X(aggregateSaStatistics, totalSasDeleted, total_sas_deleted)                                                      \
    X(aggregateSaStatistics, successfulRekeys, successful_rekeys)                                                     \
    X(aggregateSaStatistics, activeTunnels, active_tunnels)                                                           \
    X(aggregateSaStatistics, offloadedSas, offloaded_sas)                                                             \
    X(espDropPacketStatistics, invalidSpisOnInbound, esp_invalid_spis_on_inbound)                                     \
    X(espDropPacketStatistics, decryptionFailuresOnInbound, esp_decryption_failures_on_inbound)                       \
    X(espDropPacketStatistics, authenticationFailuresOnInbound, esp_authentication_failures_on_inbound)               \
    X(espDropPacketStatistics, replayCheckFailuresOnInbound, esp_replay_check_failures_on_inbound)                    \
    X(espDropPacketStatistics, saNotInitializedOnInbound, esp_sa_not_initialized_on_inbound)                          \
    X(ahDropPacketStatistics, invalidSpisOnInbound, ah_invalid_spis_on_inbound)                                       \
    X(ahDropPacketStatistics, authenticationFailuresOnInbound, ah_authentication_failures_on_inbound)                 \
    X(ahDropPacketStatistics, replayCheckFailuresOnInbound, ah_replay_check_failures_on_inbound)                      \
    X(ahDropPacketStatistics, saNotInitializedOnInbound, ah_sa_not_initialized_on_inbound)                            \
    X(aggregateDropPacketStatistics, invalidSpisOnInbound, invalid_spis_on_inbound)                                   \
    X(aggregateDropPacketStatistics, decryptionFailuresOnInbound, decryption_failures_on_inbound)                     \
    X(aggregateDropPacketStatistics, authenticationFailuresOnInbound, authentication_failures_on_inbound)             \
    X(aggregateDropPacketStatistics, udpEspValidationFailuresOnInbound, udp_esp_validation_failures_on_inbound)       \
    X(aggregateDropPacketStatistics, replayCheckFailuresOnInbound, replay_check_failures_on_inbound)                  \
    X(aggregateDropPacketStatistics, invalidClearTextInbound, invalid_clear_text_inbound)                             \
    X(aggregateDropPacketStatistics, saNotInitializedOnInbound, sa_not_initialized_on_inbound)                        \
    X(aggregateDropPacketStatistics, receiveOverIncorrectSaInbound, receive_over_incorrect_sa_inbound)                \
    X(aggregateDropPacketStatistics, secureReceivesNotMatchingFilters, secure_receives_not_matching_filters)          \
    X(aggregateDropPacketStatistics, totalDropPacketsInbound, total_drop_packets_inbound)                             \
    X(inboundTrafficStatistics, encryptedByteCount, inbound_encrypted_byte_count)                                     \
    X(inboundTrafficStatistics, authenticatedAHByteCount, inbound_authenticated_ah_byte_count)                        \
    X(inboundTrafficStatistics, authenticatedESPByteCount, inbound_authenticated_esp_byte_count)                      \
    X(inboundTrafficStatistics, transportByteCount, inbound_transport_byte_count)                                     \
    X(inboundTrafficStatistics, tunnelByteCount, inbound_tunnel_byte_count)                                           \
    X(inboundTrafficStatistics, offloadByteCount, inbound_offload_byte_count)                                         \
    X(inboundTrafficStatistics, totalSuccessfulPackets, inbound_total_successful_packets)                             \
    X(outboundTrafficStatistics, encryptedByteCount, outbound_encrypted_byte_count)                                   \
    X(outboundTrafficStatistics, authenticatedAHByteCount, outbound_authenticated_ah_byte_count)                      \
    X(outboundTrafficStatistics, authenticatedESPByteCount, outbound_authenticated_esp_byte_count)                    \
    X(outboundTrafficStatistics, transportByteCount, outbound_transport_byte_count)                                   \
    X(outboundTrafficStatistics, tunnelByteCount, outbound_tunnel_byte_count)                                         \
    X(outboundTrafficStatistics, offloadByteCount, outbound_offload_byte_count)                                       \
    X(outboundTrafficStatistics, totalSuccessfulPackets, outbound_total_successful_packets)

#define WFPSA_STATISTIC(group, field, name) uint64_t name;
struct wfpsa_statistics {
    WFPSA_STATISTICS(WFPSA_STATISTIC)
};
#undef WFPSA_STATISTIC

/* The name of the index-th member of struct wfpsa_statistics, an array of uint64_t in fact; NULL past the last. */
const char *wfpsa_statistic_name(uint32_t index);

int wfpsa_session_statistics(struct wfpsa_session *session, struct wfpsa_statistics *statistics,
                             struct wfpsa_failure *failure);

/* Begins an enumeration of the structures of that version, `page_size` at a time; 0 begins with 1024, and doubles that
 * up to 8192 while an entry gets cheaper. The subnets, where not NULL, go into the enumeration template; where the
 * engine refuses that, the same filter runs in wfpsa_enumeration_next. Owns: the caller, until wfpsa_enumeration_free.
 */
int wfpsa_enumeration_open(struct wfpsa_session *session, uint32_t version, uint32_t page_size,
                           const struct wfpsa_subnets *subnets, struct wfpsa_enumeration **enumeration,
                           struct wfpsa_failure *failure);

/* Whether the subnets, if any, are the engine's business. */
int wfpsa_enumeration_pushed_down(const struct wfpsa_enumeration *enumeration);

/* From the second page on a thread fetches the next page while the one before is decoded: two pages are then in
 * memory. The other functions here are not to be called for one enumeration from two threads at once. */
void wfpsa_enumeration_prefetch(struct wfpsa_enumeration *enumeration);

/* Waits until the next page is fetched: wfpsa_enumeration_next then waits for no call, whatever became of it. */
void wfpsa_enumeration_await(struct wfpsa_enumeration *enumeration);

/* Fetches one page and appends it to the batch; *more says whether another may follow: a page with fewer contexts than
 * asked for is the last. The page is freed on every path, its keys wiped as wfpsa_columns_append1 does. */
int wfpsa_enumeration_next(struct wfpsa_enumeration *enumeration, struct wfpsa_columns *columns, int *more,
                           struct wfpsa_failure *failure);

/* Waits for the fetching thread and destroys the enumeration handle. Again, or after the session was closed: does
 * nothing. */
int wfpsa_enumeration_close(struct wfpsa_enumeration *enumeration, struct wfpsa_failure *failure);

/* After wfpsa_enumeration_close, and before the session is freed. NULL is allowed. */
void wfpsa_enumeration_free(struct wfpsa_enumeration *enumeration);

/* Enumerates everything and frees each page unread: the floor that decoding is measured against. */
int wfpsa_session_drain(struct wfpsa_session *session, uint32_t version, uint32_t page_size, uint64_t *count,
                        struct wfpsa_failure *failure);

/* What became of one id. The values are wfpsa.Outcome's. */
enum wfpsa_outcome {
    WFPSA_EXPIRED = 0,      /* the call succeeded: the outbound SA is gone, the inbound SA lingers for a minute */
    WFPSA_ALREADY_GONE = 1, /* FWP_E_NOT_FOUND */
    WFPSA_DENIED = 2,       /* ERROR_ACCESS_DENIED */
    WFPSA_FAILED = 3,       /* any other code */
    WFPSA_SKIPPED = 4,      /* a guard said no */
    WFPSA_CHANGED = 5,      /* no longer what the plan saw */
    WFPSA_NOT_ATTEMPTED = 6
};

/* Expires ids[*done] and on, for about slice_ms milliseconds or to the end, whichever comes first, moving *done past
 * each id whose outcome and code it has written. Stops early where the session is lost (*lost), leaving the rest
 * unattempted. Fails: WFPSA_CLOSED, WFPSA_FORKED; never WFPSA_CALL_FAILED: a failed call is an outcome. */
int wfpsa_session_expire(struct wfpsa_session *session, const uint64_t *ids, uint64_t count, uint64_t slice_ms,
                         uint64_t *done, uint8_t *outcomes, uint32_t *codes, int *lost);

/* Ids to be expired with care, and what became of them; all arrays have a cell for each. */
struct wfpsa_expiry {
    const uint64_t *ids;
    uint8_t *outcomes;
    uint32_t *codes;
    uint8_t *attempts;      /* NULL, or calls made for each so far, counted up to 255 */
    const uint8_t *skipped; /* NULL, or not 0 for ids that are passed over and become WFPSA_SKIPPED */
    /* NULL, or a frozen batch and no selection: each context is read by its id just before, and where it is not what
     * its row here says in every column that `found` has too, it is left alone (WFPSA_CHANGED). One that cannot be
     * read has the outcome of that call. */
    const struct wfpsa_columns *seen;
    struct wfpsa_columns *found; /* unfrozen and empty, of structure version 1, without text; nothing stays in it */
    int stop_at_failure;         /* whether to come back after the first one that is denied or fails */
};

/* As wfpsa_session_expire, up to the id before `stop`. */
int wfpsa_session_expire_with_care(struct wfpsa_session *session, const struct wfpsa_expiry *expiry, uint64_t stop,
                                   uint64_t slice_ms, uint64_t *done, int *lost);

#endif
