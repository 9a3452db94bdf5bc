# The C library, declared once, in the order of its headers.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

cdef extern from "wfpsa/columns.h" nogil:
    enum:
        WFPSA_OK
        WFPSA_CALL_FAILED
        WFPSA_NO_MEMORY
        WFPSA_CLOSED
        WFPSA_FORKED

    enum:
        WFPSA_BOOL
        WFPSA_U8
        WFPSA_U16
        WFPSA_U32
        WFPSA_U64
        WFPSA_ENUM
        WFPSA_IPV4
        WFPSA_ADDRESS
        WFPSA_GUID
        WFPSA_TEXT

    enum:
        WFPSA_NEVER
        WFPSA_NO_SA
        WFPSA_NO_ADDRESS
        WFPSA_NO_DIRECTION
        WFPSA_NO_FIRST
        WFPSA_NO_SECOND
        WFPSA_ZERO
        WFPSA_CODE_255

    enum:
        WFPSA_BOTH_DIRECTIONS
        WFPSA_INBOUND
        WFPSA_OUTBOUND

    enum:
        # <columns>
        WFPSA_COLUMN_context_id
        WFPSA_COLUMN_has_inbound
        WFPSA_COLUMN_has_outbound
        WFPSA_COLUMN_ip_version
        WFPSA_COLUMN_traffic_type
        WFPSA_COLUMN_local_address
        WFPSA_COLUMN_remote_address
        WFPSA_COLUMN_local_port
        WFPSA_COLUMN_remote_port
        WFPSA_COLUMN_ip_protocol
        WFPSA_COLUMN_local_interface_luid
        WFPSA_COLUMN_real_profile_id
        WFPSA_COLUMN_traffic_differs
        WFPSA_COLUMN_spi_in
        WFPSA_COLUMN_ah_spi_in
        WFPSA_COLUMN_sa_count_in
        WFPSA_COLUMN_transform_in
        WFPSA_COLUMN_auth_type_in
        WFPSA_COLUMN_auth_config_in
        WFPSA_COLUMN_cipher_type_in
        WFPSA_COLUMN_cipher_config_in
        WFPSA_COLUMN_ah_auth_type_in
        WFPSA_COLUMN_ah_auth_config_in
        WFPSA_COLUMN_bundle_flags_in
        WFPSA_COLUMN_lifetime_seconds_in
        WFPSA_COLUMN_lifetime_kilobytes_in
        WFPSA_COLUMN_lifetime_packets_in
        WFPSA_COLUMN_idle_timeout_seconds_in
        WFPSA_COLUMN_nd_allow_clear_timeout_seconds_in
        WFPSA_COLUMN_nap_context_in
        WFPSA_COLUMN_qm_sa_id_in
        WFPSA_COLUMN_mm_sa_id_in
        WFPSA_COLUMN_pfs_group_in
        WFPSA_COLUMN_qm_filter_id_in
        WFPSA_COLUMN_lookup_context_in
        WFPSA_COLUMN_filter_id_in
        WFPSA_COLUMN_transport_filter_id_in
        WFPSA_COLUMN_udp_local_port_in
        WFPSA_COLUMN_udp_remote_port_in
        WFPSA_COLUMN_peer_private_address_in
        WFPSA_COLUMN_key_module_in
        WFPSA_COLUMN_virtual_tunnel_id_in
        WFPSA_COLUMN_traffic_selector_id_in
        WFPSA_COLUMN_main_mode_target_in
        WFPSA_COLUMN_extended_mode_target_in
        WFPSA_COLUMN_spi_out
        WFPSA_COLUMN_ah_spi_out
        WFPSA_COLUMN_sa_count_out
        WFPSA_COLUMN_transform_out
        WFPSA_COLUMN_auth_type_out
        WFPSA_COLUMN_auth_config_out
        WFPSA_COLUMN_cipher_type_out
        WFPSA_COLUMN_cipher_config_out
        WFPSA_COLUMN_ah_auth_type_out
        WFPSA_COLUMN_ah_auth_config_out
        WFPSA_COLUMN_bundle_flags_out
        WFPSA_COLUMN_lifetime_seconds_out
        WFPSA_COLUMN_lifetime_kilobytes_out
        WFPSA_COLUMN_lifetime_packets_out
        WFPSA_COLUMN_idle_timeout_seconds_out
        WFPSA_COLUMN_nd_allow_clear_timeout_seconds_out
        WFPSA_COLUMN_nap_context_out
        WFPSA_COLUMN_qm_sa_id_out
        WFPSA_COLUMN_mm_sa_id_out
        WFPSA_COLUMN_pfs_group_out
        WFPSA_COLUMN_qm_filter_id_out
        WFPSA_COLUMN_lookup_context_out
        WFPSA_COLUMN_filter_id_out
        WFPSA_COLUMN_transport_filter_id_out
        WFPSA_COLUMN_udp_local_port_out
        WFPSA_COLUMN_udp_remote_port_out
        WFPSA_COLUMN_peer_private_address_out
        WFPSA_COLUMN_key_module_out
        WFPSA_COLUMN_virtual_tunnel_id_out
        WFPSA_COLUMN_traffic_selector_id_out
        WFPSA_COLUMN_main_mode_target_out
        WFPSA_COLUMN_extended_mode_target_out
        # </columns>
        WFPSA_COLUMN_COUNT
        WFPSA_PRESENCE

    enum:
        WFPSA_PRESENT_INBOUND
        WFPSA_PRESENT_OUTBOUND

    struct wfpsa_column_info:
        const char *name
        const char *attribute
        int kind
        int absence
        int direction
        uint8_t version
        uint8_t width
        uint8_t presence
        const char *enumeration
        const char *source
        const char *note

    struct wfpsa_strings:
        uint32_t count
        int32_t *offsets
        char *text

    struct wfpsa_columns:
        uint64_t length
        uint32_t version
        void **columns
        uint8_t *presence
        wfpsa_strings strings
        wfpsa_selection *selection

    struct wfpsa_selection:
        wfpsa_columns *parent

    struct wfpsa_subnet:
        uint8_t family
        uint8_t prefix_length
        uint8_t *address

    struct wfpsa_subnets:
        wfpsa_subnet local
        wfpsa_subnet remote

    struct IPSEC_SA_CONTEXT0_:
        pass
    struct IPSEC_SA_CONTEXT1_:
        pass

    const wfpsa_column_info *info_at "wfpsa_column_info"(uint32_t index)
    wfpsa_columns *wfpsa_columns_new(uint32_t version)
    int wfpsa_columns_reserve(wfpsa_columns *columns, uint64_t rows)
    wfpsa_columns *wfpsa_columns_new_some(uint32_t version, const uint8_t *wanted)
    wfpsa_columns *wfpsa_columns_new_rows(uint32_t version, const uint8_t *wanted, uint64_t rows)
    int wfpsa_columns_append0(wfpsa_columns *columns, IPSEC_SA_CONTEXT0_ **page, uint32_t count,
                              const wfpsa_subnets *subnets)
    int wfpsa_columns_append1(wfpsa_columns *columns, IPSEC_SA_CONTEXT1_ **page, uint32_t count,
                              const wfpsa_subnets *subnets)
    int wfpsa_columns_freeze(wfpsa_columns *columns)
    int wfpsa_columns_set_strings(wfpsa_columns *columns, uint32_t count, const int32_t *offsets, const char *text)
    uint64_t wfpsa_columns_bytes(const wfpsa_columns *columns, uint64_t rows)
    void wfpsa_columns_retain(wfpsa_columns *columns)
    void wfpsa_columns_release(wfpsa_columns *columns)
    int wfpsa_columns_cells(const wfpsa_columns *columns, uint32_t column, const void **cells)
    const wfpsa_columns *wfpsa_columns_home(const wfpsa_columns *columns, uint64_t *row)
    bint wfpsa_columns_has(const wfpsa_columns *columns, uint32_t column)
    bint wfpsa_is_absent(const wfpsa_columns *columns, const wfpsa_column_info *info, uint32_t column, uint64_t row)

cdef extern from "wfpsa/view.h" nogil:
    enum:
        WFPSA_VIEW_VERSION
    const char *WFPSA_VIEW_CAPSULE

    struct wfpsa_view:
        uint32_t version
        uint32_t columns_count
        uint64_t length
        uint64_t start
        int64_t step
        const void *const *cells
        const uint8_t *presence
        uint32_t names
        const int32_t *offsets
        const char *text

    bint wfpsa_view_is_known(const wfpsa_view *view)
    bint wfpsa_view_has(const wfpsa_view *view, int column)
    uint8_t wfpsa_view_u8(const wfpsa_view *view, int column, uint64_t index)
    uint16_t wfpsa_view_u16(const wfpsa_view *view, int column, uint64_t index)
    uint32_t wfpsa_view_u32(const wfpsa_view *view, int column, uint64_t index)
    uint64_t wfpsa_view_u64(const wfpsa_view *view, int column, uint64_t index)
    const uint8_t *wfpsa_view_bytes(const wfpsa_view *view, int column, uint64_t index)
    const char *wfpsa_view_text(const wfpsa_view *view, int column, uint64_t index, uint32_t *length)
    bint wfpsa_view_is_absent(const wfpsa_view *view, int column, uint64_t index)

cdef extern from "wfpsa/query.h" nogil:
    struct wfpsa_rows:
        const wfpsa_columns *columns
        uint64_t start
        int64_t step
        uint64_t length

    wfpsa_columns *wfpsa_take(const wfpsa_columns *source, uint64_t start, int64_t step, const uint64_t *rows,
                              uint64_t count)
    bint wfpsa_rows_equal(const wfpsa_columns *a, uint64_t row_a, const wfpsa_columns *b, uint64_t row_b,
                          const uint8_t *wanted)

    enum wfpsa_test:
        WFPSA_ONE_OF
        WFPSA_WITHIN
        WFPSA_IN_NETS

    struct wfpsa_text:
        const char *text
        uint64_t length

    struct wfpsa_condition:
        uint32_t column
        wfpsa_test test
        int or_absent
        uint64_t count
        const void *values
        uint64_t low
        uint64_t high

    int wfpsa_select(wfpsa_columns *source, uint64_t start, int64_t step, uint64_t count,
                     const wfpsa_condition *conditions, uint32_t conditions_count, wfpsa_columns **selection)

cdef extern from "wfpsa/diff.h" nogil:
    enum:
        WFPSA_COLUMN_WORDS

    struct wfpsa_diff:
        uint64_t added_count
        uint64_t removed_count
        uint64_t changed_count
        uint64_t same_count
        uint64_t *added
        uint64_t *removed
        uint64_t *changed
        uint64_t *changed_before
        uint64_t *differing
        uint64_t *column_counts

    int wfpsa_diff_make(const wfpsa_rows *before, const wfpsa_rows *after, wfpsa_diff *diff)
    void wfpsa_diff_free(wfpsa_diff *diff)

cdef extern from "wfpsa/count.h" nogil:
    struct wfpsa_group:
        uint64_t row
        uint64_t count

    struct wfpsa_prefix:
        uint8_t v4
        uint8_t v6

    int wfpsa_count(const wfpsa_rows *view, const uint32_t *columns, unsigned column_count, const wfpsa_prefix *prefix,
                    wfpsa_group **groups, uint64_t *group_count)
    void wfpsa_groups_free(wfpsa_group *groups)
    int wfpsa_number(const wfpsa_rows *view, uint32_t column, uint32_t *numbers, uint64_t *value_count)

cdef extern from "wfpsa/layout.h" nogil:
    struct wfpsa_layout:
        const char *type
        const char *field
        uint32_t offset
        uint32_t size

    const wfpsa_layout *wfpsa_layout_at(uint32_t index)

cdef extern from "wfpsa/backends.h" nogil:
    struct wfpsa_backend

    const wfpsa_backend *wfpsa_backend_at(uint32_t index)
    const char *wfpsa_backend_name(const wfpsa_backend *backend)
    const char *wfpsa_backend_function(const wfpsa_backend *backend, uint32_t index, uintptr_t *address)

cdef extern from "wfpsa/session.h" nogil:
    struct wfpsa_session
    struct wfpsa_enumeration

    struct wfpsa_failure:
        uint32_t code
        const char *function

    enum wfpsa_transaction:
        WFPSA_BEGIN
        WFPSA_BEGIN_READ_ONLY
        WFPSA_COMMIT
        WFPSA_ABORT

    struct wfpsa_statistics:
        pass

    enum:
        WFPSA_NOT_ATTEMPTED

    int wfpsa_session_open(const wfpsa_backend *backend, const uint16_t *server_name, uint32_t lock_wait_ms,
                           wfpsa_session **session, wfpsa_failure *failure)
    int wfpsa_session_close(wfpsa_session *session, wfpsa_failure *failure)
    void wfpsa_session_free(wfpsa_session *session)
    int wfpsa_session_get(wfpsa_session *session, uint64_t id, wfpsa_columns *columns, wfpsa_failure *failure)
    int wfpsa_session_delete(wfpsa_session *session, uint64_t id, wfpsa_failure *failure)
    int wfpsa_session_transaction(wfpsa_session *session, wfpsa_transaction step, wfpsa_failure *failure)
    int wfpsa_session_statistics(wfpsa_session *session, wfpsa_statistics *statistics, wfpsa_failure *failure)
    const char *wfpsa_statistic_name(uint32_t index)
    int wfpsa_enumeration_open(wfpsa_session *session, uint32_t version, uint32_t page_size,
                               const wfpsa_subnets *subnets, wfpsa_enumeration **enumeration, wfpsa_failure *failure)
    bint wfpsa_enumeration_pushed_down(const wfpsa_enumeration *enumeration)
    void wfpsa_enumeration_prefetch(wfpsa_enumeration *enumeration)
    int wfpsa_enumeration_next(wfpsa_enumeration *enumeration, wfpsa_columns *columns, int *more,
                               wfpsa_failure *failure)
    int wfpsa_enumeration_close(wfpsa_enumeration *enumeration, wfpsa_failure *failure)
    void wfpsa_enumeration_free(wfpsa_enumeration *enumeration)
    int wfpsa_session_drain(wfpsa_session *session, uint32_t version, uint32_t page_size, uint64_t *count,
                            wfpsa_failure *failure)

    struct wfpsa_expiry:
        const uint64_t *ids
        uint8_t *outcomes
        uint32_t *codes
        uint8_t *attempts
        const uint8_t *skipped
        const wfpsa_columns *seen
        wfpsa_columns *found
        int stop_at_failure

    int wfpsa_session_expire_with_care(wfpsa_session *session, const wfpsa_expiry *expiry, uint64_t stop,
                                       uint64_t slice_ms, uint64_t *done, int *lost)

cdef extern from "wfpsa/keying.h" nogil:
    struct wfpsa_traffic:
        uint8_t ip_version
        uint8_t ip_protocol
        uint16_t local_port
        uint16_t remote_port
        uint8_t *local_address
        uint8_t *remote_address
        uint32_t traffic_type
        uint32_t real_profile_id
        uint64_t filter_id
        uint64_t local_interface_luid
        uint16_t udp_local_port
        uint16_t udp_remote_port
        uint64_t virtual_tunnel_id
        uint64_t traffic_selector_id

    struct wfpsa_sa:
        uint32_t spi
        uint32_t transform
        uint32_t auth_type
        uint32_t cipher_type
        uint8_t auth_config
        uint8_t cipher_config
        uint32_t auth_key_bytes
        uint32_t cipher_key_bytes
        const uint8_t *auth_key
        const uint8_t *cipher_key

    struct wfpsa_bundle:
        uint32_t flags
        uint32_t lifetime_seconds
        uint32_t lifetime_kilobytes
        uint32_t lifetime_packets
        uint32_t idle_timeout_seconds
        uint32_t nd_allow_clear_timeout_seconds
        uint32_t nap_context
        uint32_t qm_sa_id
        uint32_t pfs_group
        uint32_t peer_private_address
        uint64_t mm_sa_id
        uint64_t qm_filter_id
        uint8_t ip_version
        uint8_t has_key_module
        uint8_t *lookup_context
        uint8_t *key_module
        uint32_t sa_count
        wfpsa_sa *sas
        const uint16_t *main_mode_target
        const uint16_t *extended_mode_target

    struct wfpsa_details:
        wfpsa_traffic traffic
        wfpsa_bundle bundle

    int wfpsa_session_create(wfpsa_session *session, const wfpsa_traffic *outbound, uint64_t *id,
                             wfpsa_failure *failure)
    int wfpsa_session_spi(wfpsa_session *session, uint64_t id, const wfpsa_traffic *inbound, uint32_t *spi,
                          wfpsa_failure *failure)
    int wfpsa_session_add(wfpsa_session *session, uint64_t id, int direction, const wfpsa_bundle *bundle,
                          wfpsa_failure *failure)
    int wfpsa_session_update(wfpsa_session *session, uint64_t id, uint64_t flags, const wfpsa_details *inbound,
                             const wfpsa_details *outbound, wfpsa_failure *failure)
    ctypedef uint32_t wfpsa_store_adder(wfpsa_store *store, const IPSEC_SA_CONTEXT1_ *context, uint64_t *id)
    uint32_t wfpsa_keying_store(wfpsa_store_adder *add, wfpsa_store *store, uint64_t *id, const wfpsa_details *inbound,
                                const wfpsa_details *outbound)

cdef extern from "wfpsa/events.h" nogil:
    struct wfpsa_subscription

    struct wfpsa_event:
        uint64_t context_id
        uint32_t kind
        uint32_t lost_before

    int wfpsa_subscription_open(wfpsa_session *session, const wfpsa_subnets *subnets, uint32_t capacity,
                                wfpsa_subscription **subscription, wfpsa_failure *failure)
    int wfpsa_subscription_wait(wfpsa_subscription *subscription, uint64_t wait_ms)
    void wfpsa_subscription_wake(wfpsa_subscription *subscription)
    int wfpsa_subscription_take(wfpsa_subscription *subscription, wfpsa_event *events, uint32_t room, uint32_t *taken,
                                uint64_t *lost)
    int wfpsa_subscription_close(wfpsa_subscription *subscription, wfpsa_failure *failure)
    void wfpsa_subscription_free(wfpsa_subscription *subscription)

cdef extern from "wfpsa/meter.h" nogil:
    enum:
        WFPSA_CALL_BOUNDS
        WFPSA_CALL_FIRST_BOUND_NS
        WFPSA_CALL_KIND_COUNT
    enum wfpsa_call_kind:
        pass
    struct wfpsa_calls:
        int64_t *within
        int64_t ns
        int64_t failures

    void wfpsa_meter_start()
    void wfpsa_meter_read(wfpsa_call_kind kind, wfpsa_calls *calls)
    const char *wfpsa_call_kind_name(uint32_t index)

cdef extern from "wfpsa/mirror.h" nogil:
    struct wfpsa_mirror
    struct wfpsa_drift:
        uint64_t listed
        uint64_t added
        uint64_t removed
        uint64_t changed
    struct wfpsa_mirror_state:
        uint64_t contexts
        uint64_t generation
        uint64_t oldest
        uint64_t marked
        uint64_t one_sided
        uint64_t reads
        uint64_t came
        uint64_t went
        uint64_t differed
        uint64_t bytes

    int wfpsa_mirror_new(const uint8_t *wanted, uint32_t history, wfpsa_mirror **mirror)
    void wfpsa_mirror_free(wfpsa_mirror *mirror)
    int wfpsa_mirror_pull(wfpsa_mirror *mirror, wfpsa_subscription *subscription, uint64_t *lost)
    int wfpsa_mirror_read(wfpsa_mirror *mirror, wfpsa_session *session, uint64_t now, uint32_t most, uint32_t *done,
                          wfpsa_failure *failure)
    uint64_t wfpsa_mirror_due(wfpsa_mirror *mirror)
    void wfpsa_mirror_reconcile_begin(wfpsa_mirror *mirror, int anew)
    int wfpsa_mirror_reconcile_page(wfpsa_mirror *mirror, wfpsa_enumeration *enumeration, uint64_t now, int *more,
                                    wfpsa_failure *failure)
    int wfpsa_mirror_reconcile_end(wfpsa_mirror *mirror, wfpsa_drift *drift)
    int wfpsa_mirror_snapshot(wfpsa_mirror *mirror, wfpsa_columns **batch, uint64_t *generation)
    int wfpsa_mirror_changes(wfpsa_mirror *mirror, uint64_t since, wfpsa_columns **came, wfpsa_columns **went,
                             wfpsa_columns **differ, uint64_t *generation)
    void wfpsa_mirror_look(wfpsa_mirror *mirror, wfpsa_mirror_state *state)
    int wfpsa_mirror_first_seen(wfpsa_mirror *mirror, uint64_t id, uint64_t *since)

cdef extern from "wfpsa/arrow.h" nogil:
    struct ArrowSchema:
        void (*release)(ArrowSchema *)
    struct ArrowArray:
        void (*release)(ArrowArray *)
    struct ArrowArrayStream:
        void (*release)(ArrowArrayStream *)

    enum:
        WFPSA_ARROW_TEXT_ADDRESSES
        WFPSA_ARROW_NAMED_ENUMS

    int wfpsa_arrow_schema(const wfpsa_columns *columns, unsigned options, ArrowSchema *schema)
    int wfpsa_arrow_stream(wfpsa_columns *columns, uint64_t start, uint64_t length, unsigned options,
                           const char *const *const *names, ArrowArrayStream *stream)
    int wfpsa_arrow_array(wfpsa_columns *columns, uint64_t start, uint64_t length, unsigned options,
                          const char *const *const *names, ArrowArray *array)

cdef extern from "wfpsa/embedded.h" nogil:
    struct wfpsa_store

    enum:
        WFPSA_STORE_NAME_MAX
        WFPSA_KEY_MARK_BYTES
    const char *WFPSA_KEY_MARK

    struct wfpsa_live:
        int64_t stores
        int64_t engines
        int64_t enum_handles
        int64_t pages
        int64_t subscriptions
        int64_t transactions
        int64_t allocations
        int64_t misuses

    struct wfpsa_switch:
        const char *name
        const char *choices
        const char *meaning

    wfpsa_store *wfpsa_store_open(const uint16_t *name, int *created)
    void wfpsa_store_release(wfpsa_store *store)
    const uint16_t *wfpsa_store_name(const wfpsa_store *store)
    int wfpsa_store_seed(wfpsa_store *store, uint64_t count, uint64_t seed, int population)
    ctypedef const IPSEC_SA_CONTEXT1_ *(*wfpsa_replayed_context)(void *source, uint64_t index)
    ctypedef uint32_t wfpsa_store_replayer(wfpsa_store *store, uint64_t count, wfpsa_replayed_context next,
                                           void *source, uint64_t *failed)
    uint32_t wfpsa_store_replay(wfpsa_store *store, uint64_t count, wfpsa_replayed_context next, void *source,
                                uint64_t *failed)
    uint32_t wfpsa_store_add(wfpsa_store *store, const IPSEC_SA_CONTEXT1_ *context, uint64_t *id)
    int wfpsa_store_churn(wfpsa_store *store, uint64_t per_second, uint64_t seed)
    uint64_t wfpsa_store_count(wfpsa_store *store)
    void wfpsa_store_clock(wfpsa_store *store, int manual)
    void wfpsa_store_advance(wfpsa_store *store, uint64_t milliseconds)
    uint64_t wfpsa_store_now(wfpsa_store *store)
    void wfpsa_store_latency(wfpsa_store *store, uint64_t per_call_ns, uint64_t per_entry_ns)
    void wfpsa_store_rights(wfpsa_store *store, int rights)
    int wfpsa_store_fail(wfpsa_store *store, const char *function, uint64_t nth, uint32_t code)
    void wfpsa_store_stop(wfpsa_store *store, uint32_t code)
    void wfpsa_store_start(wfpsa_store *store)
    void wfpsa_store_notifications(wfpsa_store *store, uint32_t capacity, int held)
    const wfpsa_switch *wfpsa_switch_at(uint32_t index)
    int wfpsa_store_switch(wfpsa_store *store, const char *name, const char *choice)
    void wfpsa_embedded_live(wfpsa_live *live)
    uint64_t wfpsa_embedded_page_bytes(const void *result)
    int wfpsa_embedded_misuse(uint32_t index, const char **function, const char **what, int64_t *count)
    void wfpsa_embedded_forget_misuses()
    void wfpsa_embedded_fail_allocation(uint64_t nth)

cdef extern from "wfpsa/replay.h" nogil:
    uint32_t wfpsa_replay(wfpsa_store_replayer *replayer, wfpsa_store *store, const wfpsa_columns *columns,
                          uint64_t start, int64_t step, uint64_t count, uint64_t *failed)
