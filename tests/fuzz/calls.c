/* Fuzzes the session, mass expiry and the questions to batches, over an engine table whose every answer is of the
 * input's making: wrong codes, odd pages, NULL where something was promised.
 *
 * An input is a list of operations, each a byte and what the operation reads. What the library answers must be what
 * the table's calls add up to, and what the plainest loop over the batches says. To add an operation, write it and
 * append it to `operations`: the seeds keep their meaning.
 */
#include "pages.h"

#include "wfpsa/backend.h"

#define OPERATIONS_MAX 128 /* of one input */
#define SLOTS 4
#define QUESTIONS_AT_THE_END 2
#define HANDED_MAX 8

/* ---- the engine: what it gave, what it took back, what it was asked ---- */

/* A page or a context that is not yet given back. */
struct handed {
    void *address;
    struct page page;
};

static struct {
    struct input *in;
    uint64_t calls;
    const char *function; /* the last one, and what it returned */
    DWORD code;
    const WCHAR *server_name; /* that an open must come with */
    uint32_t lock_wait_ms;
    int64_t engines, enum_handles;
    const void *engine; /* the open one */
    uint8_t enum_handle_open[256];
    uint32_t enum_handle_next;
    const struct wfpsa_subnets *subnets; /* that a template must say, NULL for none */
    int templates_refused;
    const struct wfpsa_subnets *filter; /* that the library applies to the next page itself */
    int unread;                         /* the next page goes back with its keys */
    uint32_t page_size;
    UINT32 returned; /* the count of the last page */
    struct handed handed[HANDED_MAX];
    uint64_t ids[OPERATIONS_MAX]; /* of the contexts of the last page that the batch must have got */
    uint64_t ids_count;
    uint64_t asked[OPERATIONS_MAX]; /* what one expiry asked for, and the answers */
    DWORD answers[OPERATIONS_MAX];
    uint64_t asked_count;
} fake;

static DWORD
answer(const char *function, DWORD code)
{
    fake.calls++;
    fake.function = function;
    fake.code = code;
    return code;
}

/* Success more often than not; else a code that the library knows, or any. */
static DWORD
fuzzed_code(void)
{
    static const DWORD known[] = {(DWORD)FWP_E_NOT_FOUND,
                                  ERROR_ACCESS_DENIED,
                                  (DWORD)FWP_E_SESSION_ABORTED,
                                  (DWORD)FWP_E_NULL_POINTER,
                                  (DWORD)FWP_E_INVALID_NET_MASK,
                                  (DWORD)FWP_E_TYPE_MISMATCH,
                                  (DWORD)FWP_E_NEVER_MATCH,
                                  (DWORD)FWP_E_INVALID_PARAMETER,
                                  ERROR_INVALID_PARAMETER,
                                  RPC_X_ENUM_VALUE_OUT_OF_RANGE,
                                  ERROR_INVALID_HANDLE,
                                  EPT_S_NOT_REGISTERED,
                                  RPC_S_INVALID_BINDING,
                                  RPC_S_SERVER_UNAVAILABLE,
                                  RPC_S_CALL_FAILED,
                                  RPC_S_CALL_FAILED_DNE,
                                  RPC_X_SS_CONTEXT_DAMAGED,
                                  0x80320012};
    uint32_t chosen = next8(fake.in);
    if (chosen < 0xA0) {
        return ERROR_SUCCESS;
    }
    return chosen < 0xF8 ? known[chosen % COUNT(known)] : next32(fake.in);
}

static void
check_engine(HANDLE engine)
{
    REQUIRE(engine && engine == fake.engine);
}

static DWORD
fake_open(const WCHAR *server_name, UINT32 authn_service, SEC_WINNT_AUTH_IDENTITY_W *identity,
          const FWPM_SESSION0 *session, HANDLE *engine)
{
    REQUIRE(server_name == fake.server_name && !identity && authn_service == RPC_C_AUTHN_DEFAULT);
    REQUIRE_EQUAL(session->txnWaitTimeoutInMSec, fake.lock_wait_ms);
    DWORD code = fuzzed_code();
    if (code == ERROR_SUCCESS) {
        *engine = &fake.engines;
        fake.engine = *engine;
        fake.engines++;
    }
    return answer("FwpmEngineOpen0", code);
}

static DWORD
fake_close(HANDLE engine)
{
    check_engine(engine);
    REQUIRE_EQUAL(fake.enum_handles, 0);
    fake.engine = NULL;
    fake.engines--;
    return answer("FwpmEngineClose0", fuzzed_code());
}

static void
fake_free(void **p)
{
    for (size_t i = 0; i < HANDED_MAX; i++) {
        struct handed *handed = &fake.handed[i];
        if (handed->address && handed->address == *p) {
            REQUIRE(fake.code != ERROR_SUCCESS || fake.unread || is_wiped(&handed->page));
            free_page(&handed->page);
            handed->address = NULL;
            *p = NULL;
            return;
        }
    }
    REQUIRE(!"freed what was not handed out");
}

static void
check_condition(const FWP_CONDITION_VALUE0 *value, const struct wfpsa_subnet *subnet)
{
    if (subnet->family == 4) {
        uint8_t address[4], mask[4];
        REQUIRE_EQUAL(value->type, FWP_V4_ADDR_MASK);
        network_order(value->v4AddrMask->addr, address);
        network_order(value->v4AddrMask->mask, mask);
        REQUIRE(memcmp(address, subnet->address + 12, 4) == 0);
        for (unsigned i = 0; i < 32; i++) {
            REQUIRE_EQUAL(mask[i / 8] >> (7 - i % 8) & 1, i < subnet->prefix_length);
        }
    } else if (subnet->family == 6) {
        REQUIRE_EQUAL(value->type, FWP_V6_ADDR_MASK);
        REQUIRE(memcmp(value->v6AddrMask->addr, subnet->address, 16) == 0);
        REQUIRE_EQUAL(value->v6AddrMask->prefixLength, subnet->prefix_length);
    } else {
        REQUIRE_EQUAL(value->type, FWP_EMPTY);
    }
}

/* Codes that speak of a template. */
static int
speaks_of_the_template(DWORD code)
{
    return code == (DWORD)FWP_E_NULL_POINTER || code == (DWORD)FWP_E_INVALID_NET_MASK ||
           code == (DWORD)FWP_E_TYPE_MISMATCH || code == (DWORD)FWP_E_NEVER_MATCH ||
           code == (DWORD)FWP_E_INVALID_PARAMETER || code == ERROR_INVALID_PARAMETER ||
           code == RPC_X_ENUM_VALUE_OUT_OF_RANGE;
}

static DWORD
fake_create_enum_handle(HANDLE engine, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *template, HANDLE *handle)
{
    check_engine(engine);
    REQUIRE_EQUAL(template != NULL, fake.subnets && !fake.templates_refused);
    if (template) {
        check_condition(&template->localSubNet, &fake.subnets->local);
        check_condition(&template->remoteSubNet, &fake.subnets->remote);
    }
    DWORD code = fuzzed_code();
    if (code == ERROR_SUCCESS) {
        uint8_t *opened = &fake.enum_handle_open[fake.enum_handle_next++];
        *opened = 1;
        *handle = opened;
        fake.enum_handles++;
    }
    fake.templates_refused += template && speaks_of_the_template(code);
    return answer("IPsecSaContextCreateEnumHandle0", code);
}

static DWORD
fake_destroy_enum_handle(HANDLE engine, HANDLE handle)
{
    uint8_t *opened = handle;
    check_engine(engine);
    REQUIRE(opened && *opened == 1);
    *opened = 0;
    fake.enum_handles--;
    return answer("IPsecSaContextDestroyEnumHandle0", fuzzed_code());
}

/* A place for what the engine gives out. */
static struct handed *
hand_out(void)
{
    size_t i = 0;
    while (fake.handed[i].address) {
        i++;
        REQUIRE(i < HANDED_MAX); /* or pages are not given back */
    }
    return &fake.handed[i];
}

static void
expect_rows(const struct page *page)
{
    fake.ids_count = 0;
    for (uint32_t i = 0; i < page->count; i++) {
        if (is_kept(page->contexts[i], fake.filter)) {
            fake.ids[fake.ids_count++] = page->contexts[i]->saContextId;
        }
    }
}

/* A good page, nothing, nothing with a count, or a page although the call failed. */
static DWORD
fake_enum(uint32_t version, const char *function, HANDLE engine, HANDLE handle, UINT32 requested, void *entries,
          UINT32 *count)
{
    void *given = NULL;
    const uint8_t *opened = handle;
    check_engine(engine);
    REQUIRE(opened && *opened == 1);
    REQUIRE_EQUAL(requested, fake.page_size);
    DWORD code = fuzzed_code();
    uint32_t kind = choice(fake.in, 8);
    fake.ids_count = 0;
    *count = kind == 6 ? odd_number(fake.in) : 0;
    if (kind < 6 && (code == ERROR_SUCCESS || kind == 5)) {
        struct handed *handed = hand_out();
        make_fuzzed_page(fake.in, version, OPERATIONS_MAX, &handed->page);
        handed->address = given = handed->page.entries;
        *count = handed->page.count;
        expect_rows(&handed->page);
    }
    fake.returned = *count;
    memcpy(entries, &given, sizeof given);
    return answer(function, code);
}

static DWORD
fake_enum0(HANDLE engine, HANDLE handle, UINT32 requested, IPSEC_SA_CONTEXT0 ***entries, UINT32 *count)
{
    return fake_enum(0, "IPsecSaContextEnum0", engine, handle, requested, entries, count);
}

static DWORD
fake_enum1(HANDLE engine, HANDLE handle, UINT32 requested, IPSEC_SA_CONTEXT1 ***entries, UINT32 *count)
{
    return fake_enum(1, "IPsecSaContextEnum1", engine, handle, requested, entries, count);
}

static DWORD
fake_get(uint32_t version, const char *function, HANDLE engine, void *found)
{
    void *given = NULL;
    check_engine(engine);
    DWORD code = fuzzed_code();
    uint32_t kind = choice(fake.in, 8);
    fake.ids_count = 0;
    if (kind < 6 && (code == ERROR_SUCCESS || kind == 5)) {
        struct handed *handed = hand_out();
        make_fuzzed_page(fake.in, version, 1, &handed->page);
        if (handed->page.count && handed->page.contexts[0]) {
            memcpy(&given, handed->page.entries, sizeof given);
            handed->address = given;
            expect_rows(&handed->page);
        } else {
            free_page(&handed->page);
        }
    }
    memcpy(found, &given, sizeof given);
    return answer(function, code);
}

static DWORD
fake_get0(HANDLE engine, UINT64 id, IPSEC_SA_CONTEXT0 **found)
{
    (void)id;
    return fake_get(0, "IPsecSaContextGetById0", engine, found);
}

static DWORD
fake_get1(HANDLE engine, UINT64 id, IPSEC_SA_CONTEXT1 **found)
{
    (void)id;
    return fake_get(1, "IPsecSaContextGetById1", engine, found);
}

static DWORD
fake_expire(HANDLE engine, UINT64 id)
{
    check_engine(engine);
    REQUIRE(fake.asked_count < COUNT(fake.asked)); /* or something is asked for twice */
    DWORD code = fuzzed_code();
    fake.asked[fake.asked_count] = id;
    fake.answers[fake.asked_count++] = code;
    return answer("IPsecSaContextExpire0", code);
}

static DWORD
fake_delete(HANDLE engine, UINT64 id)
{
    check_engine(engine);
    fake.asked[0] = id;
    return answer("IPsecSaContextDeleteById0", fuzzed_code());
}

/* What is missing is called by nothing here. */
static const struct wfpsa_backend backend = {
    .name = "fake",
    .engine_open = fake_open,
    .engine_close = fake_close,
    .free_memory = fake_free,
    .sa_context_create_enum_handle = fake_create_enum_handle,
    .sa_context_enum0 = fake_enum0,
    .sa_context_enum1 = fake_enum1,
    .sa_context_destroy_enum_handle = fake_destroy_enum_handle,
    .sa_context_get_by_id0 = fake_get0,
    .sa_context_get_by_id1 = fake_get1,
    .sa_context_expire = fake_expire,
    .sa_context_delete_by_id = fake_delete,
};

/* ---- the caller ---- */

struct listing {
    struct wfpsa_enumeration *enumeration; /* NULL: the slot is free */
    uint32_t version;
    uint32_t page_size;
    struct wfpsa_subnets subnets;
    int filtered; /* by the library */
    int open;
};

static struct {
    struct wfpsa_session *session;
    struct listing listings[SLOTS];
    struct wfpsa_columns *building[2]; /* by version */
    struct wfpsa_columns *frozen[SLOTS];
    uint64_t fail_nth; /* allocation of this operation, 0 for none */
} caller;

/* Whether memory failed this operation, as it was planned to; anything else with this status is wrong. */
static int
was_out_of_memory(int status)
{
    if (status != WFPSA_NO_MEMORY) {
        return 0;
    }
    REQUIRE(caller.fail_nth && failure_struck(caller.fail_nth));
    caller.fail_nth = 0;
    return 1;
}

/* The status of an operation on the session that made its call: the engine's last answer, with its name. */
static void
check_status(int status, const struct wfpsa_failure *failure)
{
    if (status == WFPSA_OK) {
        REQUIRE_EQUAL(fake.code, ERROR_SUCCESS);
    } else {
        REQUIRE_EQUAL(status, WFPSA_CALL_FAILED);
        REQUIRE(fake.code != ERROR_SUCCESS && failure->code == fake.code);
        REQUIRE(strcmp(failure->function, fake.function) == 0);
    }
}

static int
is_closed(void)
{
    return fake.engine == NULL;
}

static void
open_session(struct input *in)
{
    static const uint16_t name[] = {'x', 0};
    struct wfpsa_failure failure;
    if (caller.session) {
        return;
    }
    fake.lock_wait_ms = odd_number(in);
    fake.server_name = next8(in) & 1 ? name : NULL;
    int status = wfpsa_session_open(&backend, fake.server_name, fake.lock_wait_ms, &caller.session, &failure);
    if (!was_out_of_memory(status)) {
        check_status(status, &failure);
    }
    REQUIRE_EQUAL(caller.session != NULL, status == WFPSA_OK);
}

static void
close_session(struct input *in)
{
    struct wfpsa_failure failure;
    uint64_t calls = fake.calls;
    (void)in;
    if (!caller.session) {
        return;
    }
    int was_closed = is_closed();
    int status = wfpsa_session_close(caller.session, &failure);
    if (was_closed) {
        REQUIRE(status == WFPSA_OK && fake.calls == calls);
    } else {
        check_status(status, &failure);
        REQUIRE(is_closed());
    }
    for (size_t i = 0; i < SLOTS; i++) {
        caller.listings[i].open = 0;
    }
}

static void
close_listing_at(struct listing *listing)
{
    struct wfpsa_failure failure;
    uint64_t calls = fake.calls;
    if (!listing->enumeration) {
        return;
    }
    int status = wfpsa_enumeration_close(listing->enumeration, &failure);
    if (listing->open) {
        check_status(status, &failure);
        REQUIRE_EQUAL(fake.calls, calls + 1);
    } else {
        REQUIRE(status == WFPSA_OK && fake.calls == calls);
    }
    listing->open = 0;
}

/* The slot of the input's choice, or the next one that holds something, if any does. */
static struct listing *
some_listing(struct input *in)
{
    uint32_t slot = choice(in, SLOTS);
    for (uint32_t i = 0; i < SLOTS && !caller.listings[slot].enumeration; i++) {
        slot = (slot + 1) % SLOTS;
    }
    return &caller.listings[slot];
}

static void
close_listing(struct input *in)
{
    close_listing_at(some_listing(in));
}

static void
free_listing_at(struct listing *listing)
{
    close_listing_at(listing);
    wfpsa_enumeration_free(listing->enumeration);
    listing->enumeration = NULL;
}

static void
free_listing(struct input *in)
{
    free_listing_at(some_listing(in));
}

static void
free_session(struct input *in)
{
    for (size_t i = 0; i < SLOTS; i++) {
        free_listing_at(&caller.listings[i]);
    }
    close_session(in);
    wfpsa_session_free(caller.session);
    caller.session = NULL;
}

static void
open_listing(struct input *in)
{
    struct listing *listing = &caller.listings[choice(in, SLOTS)];
    struct wfpsa_failure failure;
    if (!caller.session || listing->enumeration) {
        return;
    }
    uint8_t shape = next8(in);
    listing->version = shape & 1;
    listing->page_size = 1 + odd_number(in) % 0xFFFFFFFF;
    memset(&listing->subnets, 0, sizeof listing->subnets);
    if (shape & 2) {
        listing->subnets.local = fuzzed_subnet(in);
        listing->subnets.remote = fuzzed_subnet(in);
    }
    fake.subnets = listing->subnets.local.family || listing->subnets.remote.family ? &listing->subnets : NULL;
    fake.templates_refused = 0;
    uint64_t calls = fake.calls;
    int was_closed = is_closed();
    int status = wfpsa_enumeration_open(caller.session, listing->version, listing->page_size,
                                        shape & 2 ? &listing->subnets : NULL, &listing->enumeration, &failure);
    if (was_out_of_memory(status)) {
        REQUIRE(fake.calls == calls);
    } else if (was_closed) {
        REQUIRE(status == WFPSA_CLOSED && fake.calls == calls);
    } else {
        check_status(status, &failure);
        REQUIRE_EQUAL(fake.calls, calls + 1 + (uint64_t)fake.templates_refused);
    }
    REQUIRE_EQUAL(listing->enumeration != NULL, status == WFPSA_OK);
    if (status == WFPSA_OK) {
        listing->open = 1;
        listing->filtered = fake.templates_refused;
        REQUIRE_EQUAL(wfpsa_enumeration_pushed_down(listing->enumeration), !listing->filtered);
    }
}

/* The batch under construction of that version, NULL where memory is short. */
static struct wfpsa_columns *
building(uint32_t version)
{
    if (!caller.building[version]) {
        caller.building[version] = wfpsa_columns_new(version);
        was_out_of_memory(caller.building[version] ? WFPSA_OK : WFPSA_NO_MEMORY);
    }
    return caller.building[version];
}

/* After a call that appends: the rows are there, or the batch is only good for its end. */
static void
check_appended(uint32_t version, int status, uint64_t before)
{
    struct wfpsa_columns *columns = caller.building[version];
    if (status == WFPSA_NO_MEMORY) {
        wfpsa_columns_release(columns);
        caller.building[version] = NULL;
        return;
    }
    uint64_t added = status == WFPSA_OK ? fake.ids_count : 0;
    REQUIRE_EQUAL(columns->length, before + added);
    for (uint64_t i = 0; i < added; i++) {
        REQUIRE_EQUAL(U64(columns, context_id, before + i), fake.ids[i]);
    }
}

static void
next_page(struct input *in)
{
    struct listing *listing = some_listing(in);
    struct wfpsa_failure failure;
    int more = 7;
    if (!listing->enumeration) {
        return;
    }
    struct wfpsa_columns *columns = building(listing->version);
    if (!columns) {
        return;
    }
    uint64_t before = columns->length, calls = fake.calls;
    fake.page_size = listing->page_size;
    fake.filter = listing->filtered ? &listing->subnets : NULL;
    int status = wfpsa_enumeration_next(listing->enumeration, columns, &more, &failure);
    if (was_out_of_memory(status)) {
        REQUIRE_EQUAL(fake.code, ERROR_SUCCESS);
    } else if (!listing->open) {
        REQUIRE(status == WFPSA_CLOSED && fake.calls == calls);
    } else {
        check_status(status, &failure);
    }
    REQUIRE_EQUAL(more, status == WFPSA_OK && fake.returned >= listing->page_size);
    check_appended(listing->version, status, before);
}

static void
get(struct input *in)
{
    uint32_t version = choice(in, 2);
    struct wfpsa_failure failure;
    struct wfpsa_columns *columns = caller.session ? building(version) : NULL;
    if (!columns) {
        return;
    }
    uint64_t before = columns->length, calls = fake.calls;
    int was_closed = is_closed();
    fake.filter = NULL;
    int status = wfpsa_session_get(caller.session, next8(in), columns, &failure);
    if (was_out_of_memory(status)) {
        REQUIRE_EQUAL(fake.code, ERROR_SUCCESS);
    } else if (was_closed) {
        REQUIRE(status == WFPSA_CLOSED && fake.calls == calls);
    } else {
        check_status(status, &failure);
    }
    check_appended(version, status, before);
}

/* A page that comes from no session, so that the questions have something to ask about. */
static void
append(struct input *in)
{
    static struct page page;
    uint32_t version = choice(in, 2);
    struct wfpsa_columns *columns = building(version);
    if (!columns) {
        return;
    }
    uint64_t before = columns->length;
    make_fuzzed_page(in, version, OPERATIONS_MAX, &page);
    fake.filter = NULL;
    expect_rows(&page);
    int status = append_page(columns, page.entries, page.count, NULL);
    REQUIRE(was_out_of_memory(status) || status == WFPSA_OK);
    free_page(&page);
    check_appended(version, status, before);
}

static void
delete(struct input *in)
{
    struct wfpsa_failure failure;
    uint64_t id = next64(in), calls = fake.calls;
    if (!caller.session) {
        return;
    }
    int was_closed = is_closed();
    int status = wfpsa_session_delete(caller.session, id, &failure);
    if (was_closed) {
        REQUIRE(status == WFPSA_CLOSED && fake.calls == calls);
    } else {
        check_status(status, &failure);
        REQUIRE_EQUAL(fake.asked[0], id);
    }
}

static void
drain(struct input *in)
{
    struct wfpsa_failure failure;
    uint32_t version = choice(in, 2);
    uint64_t count = UINT64_MAX, calls = fake.calls;
    if (!caller.session) {
        return;
    }
    fake.page_size = 1 + choice(in, 16);
    fake.subnets = NULL;
    fake.templates_refused = 0;
    fake.filter = NULL;
    fake.unread = 1;
    int was_closed = is_closed();
    int64_t handles = fake.enum_handles;
    int status = wfpsa_session_drain(caller.session, version, fake.page_size, &count, &failure);
    fake.unread = 0;
    if (was_out_of_memory(status)) {
        REQUIRE_EQUAL(fake.calls, calls);
    } else if (was_closed) {
        REQUIRE(status == WFPSA_CLOSED && fake.calls == calls);
    } else if (status == WFPSA_OK) {
        REQUIRE(fake.returned < fake.page_size && count >= fake.returned);
        REQUIRE_EQUAL(fake.code, ERROR_SUCCESS);
    } else { /* the failure is that of the first call that failed, the handle's end came after it */
        REQUIRE(status == WFPSA_CALL_FAILED && failure.code != ERROR_SUCCESS);
    }
    REQUIRE_EQUAL(fake.enum_handles, handles);
}

/* ---- expiry ---- */

static uint32_t
outcome_of_code(DWORD code)
{
    return code == 0                        ? WFPSA_EXPIRED
           : code == (DWORD)FWP_E_NOT_FOUND ? WFPSA_ALREADY_GONE
           : code == ERROR_ACCESS_DENIED    ? WFPSA_DENIED
                                            : WFPSA_FAILED;
}

static int
ends_the_session(DWORD code)
{
    return code == (DWORD)FWP_E_SESSION_ABORTED || code == ERROR_INVALID_HANDLE || code == EPT_S_NOT_REGISTERED ||
           code == RPC_S_INVALID_BINDING || code == RPC_S_SERVER_UNAVAILABLE || code == RPC_S_CALL_FAILED ||
           code == RPC_S_CALL_FAILED_DNE || code == RPC_X_SS_CONTEXT_DAMAGED;
}

/* A list of ids from wherever the input says to its end, in slices; in blocks of exact size. */
static void
expire(struct input *in)
{
    static const uint64_t slices[] = {0, 1, 1000, UINT64_MAX, UINT64_MAX - 1};
    uint64_t count = choice(in, 48), done = 0, calls = fake.calls;
    int lost = 7, stop = 0;
    if (!caller.session) {
        return;
    }
    uint64_t *ids = malloc(count * sizeof *ids + 1);
    uint8_t *outcomes = malloc(count + 1);
    uint32_t *codes = malloc(count * sizeof *codes + 1);
    REQUIRE(ids && outcomes && codes);
    for (uint64_t i = 0; i < count; i++) {
        ids[i] = i % 3 ? i : odd_number(in); /* now and then the same again */
        outcomes[i] = WFPSA_NOT_ATTEMPTED;
        codes[i] = 0xC0DE;
    }
    uint64_t first = choice(in, 4) ? 0 : count ? choice(in, (uint32_t)count) : 0;
    done = first;
    fake.asked_count = 0;
    do {
        uint64_t before = done;
        int was_closed = is_closed();
        uint64_t slice = slices[choice(in, COUNT(slices))];
        int status = wfpsa_session_expire(caller.session, ids, count, slice, &done, outcomes, codes, &lost);
        if (was_closed) {
            REQUIRE(status == WFPSA_CLOSED && fake.calls == calls && done == first);
            break;
        }
        REQUIRE_EQUAL(status, WFPSA_OK);
        REQUIRE(done <= count && (done > before || done == count));
        REQUIRE(slice != 0 || done <= before + 1);
        REQUIRE(done == count || lost || slice < UINT64_MAX - 1);
        REQUIRE_EQUAL(lost, done > before && ends_the_session(codes[done - 1]));
        stop = next8(in) > 0xF0; /* the caller has had enough */
    } while (done < count && !lost && !stop);

    REQUIRE_EQUAL(fake.asked_count, done - first);
    for (uint64_t i = 0; i < count; i++) {
        if (i < first || i >= done) {
            REQUIRE(outcomes[i] == WFPSA_NOT_ATTEMPTED && codes[i] == 0xC0DE);
            continue;
        }
        REQUIRE_EQUAL(fake.asked[i - first], ids[i]);
        REQUIRE_EQUAL(codes[i], fake.answers[i - first]);
        REQUIRE_EQUAL(outcomes[i], outcome_of_code(codes[i]));
        REQUIRE(i + 1 == done || !ends_the_session(codes[i]));
    }
    free(ids);
    free(outcomes);
    free(codes);
}

/* ---- questions to frozen batches ---- */

static void
freeze(struct input *in)
{
    uint32_t version = choice(in, 2), slot = choice(in, SLOTS);
    version = caller.building[version] ? version : 1 - version;
    struct wfpsa_columns *batch = caller.building[version];
    if (!batch) {
        return;
    }
    caller.building[version] = NULL;
    int status = wfpsa_columns_freeze(batch);
    if (was_out_of_memory(status)) {
        wfpsa_columns_release(batch);
        return;
    }
    REQUIRE_EQUAL(status, WFPSA_OK);
    REQUIRE(is_sound(batch));
    wfpsa_columns_release(caller.frozen[slot]);
    caller.frozen[slot] = batch;
}

/* The slot of the input's choice, or the next one that holds a batch; NULL where none does. */
static struct wfpsa_columns *
some_batch(struct input *in)
{
    uint32_t slot = choice(in, SLOTS);
    for (uint32_t i = 0; i < SLOTS && !caller.frozen[slot]; i++) {
        slot = (slot + 1) % SLOTS;
    }
    return caller.frozen[slot];
}

static uint32_t
code_at(const struct wfpsa_columns *batch, uint32_t column, uint64_t row)
{
    return ((const uint32_t *)batch->columns[column])[row];
}

/* Whether one cell is the other, names as text. */
static int
same_cell(const struct wfpsa_columns *a, uint64_t row_a, const struct wfpsa_columns *b, uint64_t row_b,
          uint32_t column)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    if (info->kind == WFPSA_TEXT) {
        uint32_t code_a = code_at(a, column, row_a), code_b = code_at(b, column, row_b);
        const int32_t *offsets = a->strings.offsets;
        return code_a == 0 || code_b == 0 ? code_a == code_b
                                          : name_is(b, code_b, a->strings.text + offsets[code_a],
                                                    (size_t)(offsets[code_a + 1] - offsets[code_a]));
    }
    return memcmp((const uint8_t *)a->columns[column] + row_a * info->width,
                  (const uint8_t *)b->columns[column] + row_b * info->width, info->width) == 0;
}

/* By the words of enum wfpsa_absence, from the cells themselves. */
static int
says_nothing(const struct wfpsa_columns *batch, uint32_t column, uint64_t row)
{
    const struct wfpsa_column_info *info = wfpsa_column_info(column);
    int inbound = info->direction == WFPSA_INBOUND;
    int has_in = U8(batch, has_inbound, row), has_out = U8(batch, has_outbound, row);
    uint32_t version = U8(batch, ip_version, row);
    uint8_t transform = inbound ? U8(batch, transform_in, row) : U8(batch, transform_out, row);
    uint8_t listed = inbound ? U8(batch, sa_count_in, row) : U8(batch, sa_count_out, row);
    const uint8_t *cell = (const uint8_t *)batch->columns[column] + row * info->width;
    static const uint8_t zeros[16];
    switch (info->absence) {
    case WFPSA_NO_SA:
        return !has_in && !has_out;
    case WFPSA_NO_ADDRESS:
        return version != 4 && version != 6;
    case WFPSA_NO_DIRECTION:
        return inbound ? !has_in : !has_out;
    case WFPSA_NO_FIRST:
        return transform == WFPSA_ENUM_ABSENT;
    case WFPSA_NO_SECOND:
        return transform == WFPSA_ENUM_ABSENT || listed < 2;
    case WFPSA_ZERO:
        return memcmp(cell, zeros, info->width) == 0;
    case WFPSA_CODE_255:
        return *cell == WFPSA_ENUM_ABSENT;
    default:
        return 0;
    }
}

static void
ask_absence(struct input *in)
{
    const struct wfpsa_columns *batch = some_batch(in);
    uint64_t first = next8(in);
    for (uint64_t row = first; batch && row < batch->length && row < first + 8; row++) {
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            if (batch->columns[column]) {
                REQUIRE_EQUAL(is_absent(batch, column, row), says_nothing(batch, column, row));
            }
        }
    }
}

/* Every row that `taken` has is that of `from`, and every name that it has is one of its rows'. */
static void
check_taken(const struct wfpsa_columns *taken, const struct wfpsa_columns *from, const uint64_t *wanted)
{
    REQUIRE(is_sound(taken) && !taken->builder && taken->version == from->version);
    uint8_t *used = calloc((size_t)taken->strings.count + 1, 1);
    REQUIRE(used);
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        REQUIRE_EQUAL(taken->columns[column] != NULL, from->columns[column] != NULL);
        for (uint64_t row = 0; taken->columns[column] && row < taken->length; row++) {
            REQUIRE(same_cell(taken, row, from, wanted[row], column));
            REQUIRE_EQUAL(taken->presence[row], from->presence[wanted[row]]);
            if (wfpsa_column_info(column)->kind == WFPSA_TEXT) {
                used[code_at(taken, column, row)] = 1;
            }
        }
    }
    for (uint32_t code = 1; code <= taken->strings.count; code++) {
        REQUIRE(used[code]);
    }
    free(used);
}

/* Any start, step, and rows that exist, among them a step that only no second row allows. */
static void
take(struct input *in)
{
    struct wfpsa_columns *from = some_batch(in);
    uint32_t to = choice(in, SLOTS);
    uint8_t shape = next8(in);
    if (!from) {
        return;
    }
    int64_t step = (int64_t)choice(in, 15) - 7, length = (int64_t)from->length;
    int64_t start = length ? next8(in) % length : 0;
    /* How many times the step fits before the batch ends. */
    int64_t fits = length == 0 ? -1 : step > 0 ? (length - 1 - start) / step : step < 0 ? start / -step : 255;
    uint64_t count = fits < 0 ? 0 : choice(in, 64);
    uint64_t *rows = NULL;
    uint64_t wanted[64];
    if (shape & 1) {
        rows = malloc(count * sizeof *rows + 1);
        REQUIRE(rows);
        for (uint64_t i = 0; i < count; i++) {
            rows[i] = next8(in) % ((uint64_t)fits + 1);
        }
    } else if (count > (uint64_t)(fits + 1)) {
        count = (uint64_t)(fits + 1);
    }
    if (shape & 2 && !rows && count <= 1) {
        step = shape & 4 ? INT64_MAX : INT64_MIN;
    }
    for (uint64_t i = 0; i < count; i++) {
        wanted[i] = (uint64_t)(start + (i || rows ? step * (int64_t)(rows ? rows[i] : i) : 0));
    }
    struct wfpsa_columns *taken = wfpsa_take(from, (uint64_t)start, step, rows, count);
    if (!was_out_of_memory(taken ? WFPSA_OK : WFPSA_NO_MEMORY)) {
        REQUIRE_EQUAL(taken->length, count);
        check_taken(taken, from, wanted);
        wfpsa_columns_release(caller.frozen[to]);
        caller.frozen[to] = taken;
    }
    free(rows);
}

static void
compare(struct input *in)
{
    const struct wfpsa_columns *a = some_batch(in), *b = some_batch(in);
    uint8_t wanted[WFPSA_COLUMN_COUNT], alone[WFPSA_COLUMN_COUNT] = {0};
    uint8_t some = next8(in);
    fill(wanted, sizeof wanted, some);
    for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
        wanted[column] = wanted[column] < some;
    }
    if (!a || a->length == 0) {
        return;
    }
    if (!b || b->length == 0) {
        b = a;
    }
    uint64_t row_a = next8(in) % a->length, row_b = next8(in) % b->length;
    for (uint64_t i = 0; i < 4; i++, row_a = (row_a + 1) % a->length, row_b = (row_b + 3) % b->length) {
        int same = 1, same_wanted = 1;
        for (uint32_t column = 0; column < WFPSA_COLUMN_COUNT; column++) {
            int both = a->columns[column] && b->columns[column];
            int here = !both || (is_absent(a, column, row_a) == is_absent(b, column, row_b) &&
                                 same_cell(a, row_a, b, row_b, column));
            same &= here;
            same_wanted &= here || !wanted[column];
            alone[column] = 1; /* rows may agree in it that differ elsewhere */
            REQUIRE_EQUAL(wfpsa_rows_equal(a, row_a, b, row_b, alone), here);
            alone[column] = 0;
        }
        REQUIRE_EQUAL(wfpsa_rows_equal(a, row_a, b, row_b, NULL), same);
        REQUIRE_EQUAL(wfpsa_rows_equal(b, row_b, a, row_a, wanted), same_wanted);
    }
}

/* ---- the loop ---- */

static void (*const operations[])(struct input *in) = {
    open_session, close_session, free_session, open_listing, next_page, close_listing, free_listing, get,
    append,       delete,        drain,        expire,       freeze,    ask_absence,   take,         compare,
};

#define OPERATION_BITS 0x1F /* what is not yet an operation does nothing */
#define FAILS 0x80          /* an allocation of this operation may fail */

_Static_assert(COUNT(operations) <= OPERATION_BITS + 1, "an operation that no input can reach");

static void
operate(struct input *in)
{
    uint8_t chosen = next8(in);
    if (!caller.session && (chosen & OPERATION_BITS) != 0) {
        open_session(in); /* without one most operations have nothing to do */
    }
    caller.fail_nth = chosen & FAILS ? 1 + next8(in) : 0;
    wfpsa_embedded_fail_allocation(caller.fail_nth);
    if ((chosen & OPERATION_BITS) < COUNT(operations)) {
        operations[chosen & OPERATION_BITS](in);
    }
    /* Where memory failed, somebody has said so. */
    REQUIRE(!caller.fail_nth || !failure_struck(caller.fail_nth));
    wfpsa_embedded_fail_allocation(0);
    caller.fail_nth = 0;
    for (size_t i = 0; i < HANDED_MAX; i++) {
        REQUIRE(!fake.handed[i].address);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    memset(&fake, 0, sizeof fake);
    fake.in = &in;
    for (int i = 0; in.left && i < OPERATIONS_MAX; i++) {
        operate(&in);
    }
    free_session(&in);
    /* Whatever batches there are by now are asked everything; the input read once more says what about. */
    struct input again = {data, size};
    freeze(&again);
    freeze(&again);
    for (int i = 0; i < QUESTIONS_AT_THE_END; i++) {
        ask_absence(&again);
        compare(&again);
        take(&again);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        wfpsa_columns_release(caller.frozen[i]);
        caller.frozen[i] = NULL;
    }
    for (size_t i = 0; i < 2; i++) {
        wfpsa_columns_release(caller.building[i]);
        caller.building[i] = NULL;
    }
    REQUIRE(fake.engines == 0 && fake.enum_handles == 0);
    nothing_is_alive();
    forget_pieces();
    return 0;
}
