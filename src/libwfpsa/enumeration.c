/* Enumerations: the template, pages fetched one ahead while the one before is decoded, and their size. */
#include "session.h"

#include <string.h>

#include "bytes.h"
#include "memory.h"

/* What one call brought. */
struct page {
    IPSEC_SA_CONTEXT0 **page0; /* of version 0 */
    IPSEC_SA_CONTEXT1 **page1;
    uint32_t count, wanted;
    int status;
    struct wfpsa_failure failure;
};

struct wfpsa_enumeration {
    struct wfpsa_session *session;
    struct wfpsa_enumeration *next; /* among the session's open ones */
    HANDLE handle;                  /* NULL once destroyed */
    uint32_t version;
    int pushed_down;
    struct wfpsa_subnets subnets; /* to be applied here where not pushed down */

    uint32_t page_size;
    int tunes;                    /* page_size is still being chosen */
    uint32_t samples;             /* calls at this size so far */
    uint64_t entry_ns, before_ns; /* what an entry took, at this size and at half of it (0: not known) */

    int prefetches;
    int running; /* the fetcher was started and not joined */
    struct wfpsa_thread fetcher;
    wfpsa_mutex mutex; /* guards the rest */
    wfpsa_condition change;
    int stop;
    int filled;  /* ahead holds a page that nobody has taken */
    int awaited; /* somebody waits to take it */
    struct page ahead;
};

/* ---- templates ---- */

/* The template member for a subnet; the masks are what it points to. */
static void
fill_condition(FWP_CONDITION_VALUE0 *value, const struct wfpsa_subnet *subnet, FWP_V4_ADDR_AND_MASK *v4,
               FWP_V6_ADDR_AND_MASK *v6)
{
    if (subnet->family == 4) {
        v4->addr = big_endian32(subnet->address + 12);
        v4->mask = subnet->prefix_length ? UINT32_MAX << (32 - subnet->prefix_length) : 0;
        value->type = FWP_V4_ADDR_MASK;
        value->v4AddrMask = v4;
    } else if (subnet->family == 6) {
        memcpy(v6->addr, subnet->address, 16);
        v6->prefixLength = subnet->prefix_length;
        value->type = FWP_V6_ADDR_MASK;
        value->v6AddrMask = v6;
    } else {
        value->type = FWP_EMPTY;
    }
}

/* Codes that speak of the template. Which of them the OS uses is not documented, and the docs page allows fewer types
 * than the IDL: whatever it refuses can be filtered here. */
static int
template_refused(DWORD code)
{
    switch (code) {
    case (DWORD)FWP_E_NULL_POINTER:
    case (DWORD)FWP_E_INVALID_NET_MASK:
    case (DWORD)FWP_E_TYPE_MISMATCH:
    case (DWORD)FWP_E_NEVER_MATCH:
    case (DWORD)FWP_E_INVALID_PARAMETER:
    case ERROR_INVALID_PARAMETER:
    case RPC_X_ENUM_VALUE_OUT_OF_RANGE:
        return 1;
    default:
        return 0;
    }
}

IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *
wfpsa_template_fill(struct wfpsa_template *filled, const struct wfpsa_subnets *subnets)
{
    if (!subnets || (subnets->local.family == 0 && subnets->remote.family == 0)) {
        return NULL; /* so that contexts without an SA stay too */
    }
    memset(filled, 0, sizeof *filled);
    fill_condition(&filled->template.localSubNet, &subnets->local, &filled->local4, &filled->local6);
    fill_condition(&filled->template.remoteSubNet, &subnets->remote, &filled->remote4, &filled->remote6);
    return &filled->template;
}

/* ---- the size of a page that nobody chose ---- */

#define FIRST_PAGE_SIZE 1024u
#define LAST_PAGE_SIZE 8192u

#define SAMPLES 2u /* calls at each size, of which the faster one counts: any of them may have been held up */

/* Doubles the size while an entry gets cheaper by a tenth; else takes the last step back. */
static void
tune(struct wfpsa_enumeration *enumeration, uint64_t elapsed_ns)
{
    uint64_t entry_ns = elapsed_ns / enumeration->page_size;
    if (enumeration->samples == 0 || entry_ns < enumeration->entry_ns) {
        enumeration->entry_ns = entry_ns;
    }
    if (++enumeration->samples < SAMPLES) {
        return;
    }
    enumeration->samples = 0;
    if (enumeration->before_ns && enumeration->entry_ns >= enumeration->before_ns - enumeration->before_ns / 10) {
        enumeration->page_size /= 2;
        enumeration->tunes = 0;
    } else if (enumeration->page_size >= LAST_PAGE_SIZE) {
        enumeration->tunes = 0;
    } else {
        enumeration->before_ns = enumeration->entry_ns;
        enumeration->page_size *= 2;
    }
}

/* ---- fetching ---- */

/* One call of Enum0 or Enum1. Whether the OS leaves NULL after an empty or failed page is not documented. */
static struct page
fetch(struct wfpsa_enumeration *enumeration)
{
    struct wfpsa_session *session = enumeration->session;
    const struct wfpsa_backend *backend = session->backend;
    struct page page;
    UINT32 count = 0;
    uint64_t began;
    memset(&page, 0, sizeof page);
    page.wanted = enumeration->page_size;
    page.status = wfpsa_session_enter(session);
    if (page.status != WFPSA_OK) {
        return page;
    }
    uint64_t start = enumeration->tunes ? wfpsa_monotonic_ns() : 0;
    if (!enumeration->handle) {
        page.status = WFPSA_CLOSED;
    } else if (enumeration->version == 0) {
        DWORD code =
            METERED(enumerate, began,
                    backend->sa_context_enum0(session->engine, enumeration->handle, page.wanted, &page.page0, &count));
        page.status = wfpsa_outcome_of(code, "IPsecSaContextEnum0", &page.failure);
    } else {
        DWORD code =
            METERED(enumerate, began,
                    backend->sa_context_enum1(session->engine, enumeration->handle, page.wanted, &page.page1, &count));
        page.status = wfpsa_outcome_of(code, "IPsecSaContextEnum1", &page.failure);
    }
    page.count = page.status == WFPSA_OK ? count : 0;
    if (enumeration->tunes && page.count >= page.wanted) {
        tune(enumeration, wfpsa_monotonic_ns() - start);
    }
    wfpsa_session_leave(session);
    return page;
}

static void
page_free(const struct wfpsa_enumeration *enumeration, struct page *page)
{
    const struct wfpsa_backend *backend = enumeration->session->backend;
    if (page->page0) {
        backend->free_memory((void **)&page->page0);
    }
    if (page->page1) {
        backend->free_memory((void **)&page->page1);
    }
    page->page0 = NULL;
    page->page1 = NULL;
}

/* A page that was fetched for nobody loses its keys and goes. */
static void
discard(const struct wfpsa_enumeration *enumeration, struct page *page)
{
    if (page->page0) {
        wfpsa_page_wipe0(page->page0, page->count);
    }
    if (page->page1) {
        wfpsa_page_wipe1(page->page1, page->count);
    }
    page_free(enumeration, page);
}

/* A short page ends an enumeration, and so does a failure. */
static int
is_last(const struct page *page)
{
    return page->status != WFPSA_OK || page->count < page->wanted;
}

/* Fetches a page, waits until it is taken or is about to be, and so on to the last one: two pages are alive at most,
 * and no call waits for a thread to wake up first. */
static void
fetcher_main(void *argument)
{
    struct wfpsa_enumeration *enumeration = argument;
    int ended = 0;
    while (!ended) {
        struct page page = fetch(enumeration);
        wfpsa_mutex_lock(&enumeration->mutex);
        while (enumeration->filled && !enumeration->stop) {
            wfpsa_condition_wait(&enumeration->change, &enumeration->mutex);
        }
        if (enumeration->filled) { /* stopped: two pages for nobody */
            discard(enumeration, &page);
            wfpsa_mutex_unlock(&enumeration->mutex);
            return;
        }
        ended = is_last(&page) || enumeration->stop;
        enumeration->ahead = page;
        enumeration->filled = 1;
        wfpsa_condition_broadcast(&enumeration->change);
        while (!ended && enumeration->filled && !enumeration->awaited) {
            wfpsa_condition_wait(&enumeration->change, &enumeration->mutex);
            ended = enumeration->stop;
        }
        wfpsa_mutex_unlock(&enumeration->mutex);
    }
}

/* Ends the fetcher, if it runs, and what it fetched for nobody. */
static void
fetcher_end(struct wfpsa_enumeration *enumeration)
{
    if (enumeration->running) {
        wfpsa_mutex_lock(&enumeration->mutex);
        enumeration->stop = 1;
        wfpsa_condition_broadcast(&enumeration->change);
        wfpsa_mutex_unlock(&enumeration->mutex);
        wfpsa_thread_join(&enumeration->fetcher);
        enumeration->running = 0;
    }
    if (enumeration->filled) {
        discard(enumeration, &enumeration->ahead);
        enumeration->filled = 0;
    }
}

/* The next page: from the fetcher, or without one by a call of its own. */
static struct page
next_page(struct wfpsa_enumeration *enumeration)
{
    struct page page;
    if (!enumeration->running) {
        page = enumeration->filled ? enumeration->ahead : fetch(enumeration);
        enumeration->filled = 0;
        return page;
    }
    wfpsa_mutex_lock(&enumeration->mutex);
    while (!enumeration->filled) {
        enumeration->awaited = 1;
        wfpsa_condition_wait(&enumeration->change, &enumeration->mutex);
    }
    enumeration->awaited = 0;
    page = enumeration->ahead;
    enumeration->filled = 0;
    wfpsa_condition_broadcast(&enumeration->change);
    wfpsa_mutex_unlock(&enumeration->mutex);
    if (is_last(&page)) {
        fetcher_end(enumeration);
    }
    return page;
}

/* ---- life ---- */

static struct wfpsa_enumeration *
enumeration_new(struct wfpsa_session *session)
{
    struct wfpsa_enumeration *made = wfpsa_allocate_zeroed(1, sizeof *made);
    if (!made) {
        return NULL;
    }
    made->session = session;
    if (wfpsa_mutex_init(&made->mutex) == 0) {
        if (wfpsa_condition_init(&made->change) == 0) {
            return made;
        }
        wfpsa_mutex_destroy(&made->mutex);
    }
    wfpsa_free(made);
    return NULL;
}

int
wfpsa_enumeration_open(struct wfpsa_session *session, uint32_t version, uint32_t page_size,
                       const struct wfpsa_subnets *subnets, struct wfpsa_enumeration **enumeration,
                       struct wfpsa_failure *failure)
{
    struct wfpsa_template filled;
    const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *template = wfpsa_template_fill(&filled, subnets);
    *enumeration = NULL;
    if (session->process != wfpsa_process_id()) {
        return WFPSA_FORKED;
    }
    struct wfpsa_enumeration *opened = enumeration_new(session);
    if (!opened) {
        return WFPSA_NO_MEMORY;
    }
    opened->version = version;
    opened->page_size = page_size ? page_size : FIRST_PAGE_SIZE;
    opened->tunes = page_size == 0;
    opened->pushed_down = 1;
    if (template) {
        opened->subnets = *subnets;
    }
    int status = wfpsa_session_enter(session);
    if (status == WFPSA_OK) {
        uint64_t began;
        DWORD code =
            METERED(enumerate, began,
                    session->backend->sa_context_create_enum_handle(session->engine, template, &opened->handle));
        if (template && template_refused(code)) {
            opened->pushed_down = 0;
            code = METERED(enumerate, began,
                           session->backend->sa_context_create_enum_handle(session->engine, NULL, &opened->handle));
        }
        status = wfpsa_outcome_of(code, "IPsecSaContextCreateEnumHandle0", failure);
        if (status == WFPSA_OK) {
            if (opened->handle) { /* without one there is nothing to destroy, and nobody would unlink it */
                opened->next = session->enumerations;
                session->enumerations = opened;
            }
            *enumeration = opened;
        }
        wfpsa_session_leave(session);
    }
    if (status != WFPSA_OK) {
        wfpsa_enumeration_free(opened);
    }
    return status;
}

int
wfpsa_enumeration_pushed_down(const struct wfpsa_enumeration *enumeration)
{
    return enumeration->pushed_down;
}

void
wfpsa_enumeration_prefetch(struct wfpsa_enumeration *enumeration)
{
    enumeration->prefetches = 1;
}

void
wfpsa_enumeration_await(struct wfpsa_enumeration *enumeration)
{
    if (enumeration->session->process != wfpsa_process_id() || wfpsa_atomic_load(&enumeration->session->closing)) {
        return;
    }
    if (!enumeration->running) {
        if (!enumeration->filled) {
            enumeration->ahead = fetch(enumeration);
            enumeration->filled = 1;
        }
        return;
    }
    wfpsa_mutex_lock(&enumeration->mutex);
    while (!enumeration->filled) {
        enumeration->awaited = 1;
        wfpsa_condition_wait(&enumeration->change, &enumeration->mutex);
    }
    wfpsa_mutex_unlock(&enumeration->mutex);
}

int
wfpsa_enumeration_next(struct wfpsa_enumeration *enumeration, struct wfpsa_columns *columns, int *more,
                       struct wfpsa_failure *failure)
{
    const struct wfpsa_subnets *subnets = enumeration->pushed_down ? NULL : &enumeration->subnets;
    *more = 0;
    if (enumeration->session->process != wfpsa_process_id()) {
        return WFPSA_FORKED;
    }
    if (wfpsa_atomic_load(&enumeration->session->closing)) {
        return WFPSA_CLOSED; /* whatever was fetched ahead */
    }
    struct page page = next_page(enumeration);
    int last = is_last(&page), status = page.status;
    if (!last && enumeration->prefetches && !enumeration->running) { /* where no thread can be had it goes on alone */
        enumeration->stop = 0;
        enumeration->running = wfpsa_thread_start(&enumeration->fetcher, fetcher_main, enumeration);
    }
    if (status == WFPSA_CALL_FAILED) {
        *failure = page.failure;
    } else if (status == WFPSA_OK && page.page0) {
        status = wfpsa_columns_append0(columns, page.page0, page.count, subnets);
    } else if (status == WFPSA_OK && page.page1) {
        status = wfpsa_columns_append1(columns, page.page1, page.count, subnets);
    }
    page_free(enumeration, &page);
    *more = status == WFPSA_OK && !last;
    return status;
}

/* Destroys the handle of one that is in the session's list and whose turn it is. */
static DWORD
destroy(struct wfpsa_enumeration *enumeration)
{
    struct wfpsa_session *session = enumeration->session;
    struct wfpsa_enumeration **link = &session->enumerations;
    while (*link != enumeration) {
        link = &(*link)->next;
    }
    *link = enumeration->next;
    uint64_t began;
    DWORD code = METERED(enumerate, began,
                         session->backend->sa_context_destroy_enum_handle(session->engine, enumeration->handle));
    enumeration->handle = NULL;
    return code;
}

int
wfpsa_enumeration_close(struct wfpsa_enumeration *enumeration, struct wfpsa_failure *failure)
{
    struct wfpsa_session *session = enumeration->session;
    int status = WFPSA_OK;
    if (session->process != wfpsa_process_id()) {
        return WFPSA_OK; /* the handle is the parent's, and so is the fetcher */
    }
    fetcher_end(enumeration);
    wfpsa_session_lock(session); /* also while the session is closing: its close walks the list that this one is in */
    if (enumeration->handle) {
        status = wfpsa_outcome_of(destroy(enumeration), "IPsecSaContextDestroyEnumHandle0", failure);
    }
    wfpsa_session_leave(session);
    return status;
}

void
wfpsa_enumerations_end(struct wfpsa_session *session)
{
    while (session->enumerations) {
        destroy(session->enumerations);
    }
}

void
wfpsa_enumeration_free(struct wfpsa_enumeration *enumeration)
{
    if (enumeration && enumeration->session->process == wfpsa_process_id()) {
        wfpsa_condition_destroy(&enumeration->change);
        wfpsa_mutex_destroy(&enumeration->mutex);
        wfpsa_free(enumeration);
    }
}

int
wfpsa_session_drain(struct wfpsa_session *session, uint32_t version, uint32_t page_size, uint64_t *count,
                    struct wfpsa_failure *failure)
{
    struct wfpsa_enumeration *enumeration;
    struct wfpsa_failure ignored;
    int status = wfpsa_enumeration_open(session, version, page_size, NULL, &enumeration, failure), last = 0;
    if (status != WFPSA_OK) {
        return status;
    }
    *count = 0;
    while (!last) {
        struct page page = fetch(enumeration);
        last = is_last(&page);
        status = page.status;
        *count += page.count;
        if (status == WFPSA_CALL_FAILED) {
            *failure = page.failure;
        }
        page_free(enumeration, &page);
    }
    int closed = wfpsa_enumeration_close(enumeration, status == WFPSA_OK ? failure : &ignored);
    wfpsa_enumeration_free(enumeration);
    return status == WFPSA_OK ? closed : status;
}
