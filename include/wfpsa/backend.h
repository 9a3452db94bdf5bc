/* The engine table: one function pointer for each function of fwpuclnt.dll that wfpsa calls.
 *
 * A backend is a const table with the OS's own signatures. windows.c fills one with the import library's symbols,
 * embedded/engine.c one with an engine in memory; whoever holds a table cannot tell the two apart but by `name`.
 *
 * Owns:    nothing; tables are const and live for ever. What a call allocates is freed with free_memory.
 * Threads: any; calls on one engine handle are serialised by whoever opened it (see session.h).
 * Blocks:  any call but free_memory may wait for the engine's transaction lock.
 * Fails:   with the OS's codes: 0 is success, otherwise FWP_E_* or a Win32/RPC status, unsigned.
 */
#ifndef WFPSA_BACKEND_H
#define WFPSA_BACKEND_H

#include "wfpsa/wfp.h"

/* Each member of the table: its name, and the OS function it stands for. */
#define WFPSA_BACKEND_FUNCTIONS(X)                                                                                    \
    X(engine_open, FwpmEngineOpen0)                                                                                   \
    X(engine_close, FwpmEngineClose0)                                                                                 \
    X(free_memory, FwpmFreeMemory0)                                                                                   \
    X(transaction_begin, FwpmTransactionBegin0)                                                                       \
    X(transaction_commit, FwpmTransactionCommit0)                                                                     \
    X(transaction_abort, FwpmTransactionAbort0)                                                                       \
    X(sa_context_create_enum_handle, IPsecSaContextCreateEnumHandle0)                                                 \
    X(sa_context_enum0, IPsecSaContextEnum0)                                                                          \
    X(sa_context_enum1, IPsecSaContextEnum1)                                                                          \
    X(sa_context_destroy_enum_handle, IPsecSaContextDestroyEnumHandle0)                                               \
    X(sa_context_get_by_id0, IPsecSaContextGetById0)                                                                  \
    X(sa_context_get_by_id1, IPsecSaContextGetById1)                                                                  \
    X(sa_context_expire, IPsecSaContextExpire0)                                                                       \
    X(sa_context_delete_by_id, IPsecSaContextDeleteById0)                                                             \
    X(sa_context_create1, IPsecSaContextCreate1)                                                                      \
    X(sa_context_get_spi1, IPsecSaContextGetSpi1)                                                                     \
    X(sa_context_set_spi, IPsecSaContextSetSpi0)                                                                      \
    X(sa_context_add_inbound1, IPsecSaContextAddInbound1)                                                             \
    X(sa_context_add_outbound1, IPsecSaContextAddOutbound1)                                                           \
    X(sa_context_update, IPsecSaContextUpdate0)                                                                       \
    X(sa_context_subscribe, IPsecSaContextSubscribe0)                                                                 \
    X(sa_context_unsubscribe, IPsecSaContextUnsubscribe0)                                                             \
    X(sa_context_subscriptions_get, IPsecSaContextSubscriptionsGet0)                                                  \
    X(get_statistics1, IPsecGetStatistics1)

struct wfpsa_backend {
    const char *name; /* the scheme of a target: "windows", "embedded", "noop" */

    /* serverName must be NULL on Windows; the embedded engine takes the name of a store there (see embedded.h). */
    DWORD(WINAPI *engine_open)
    (const WCHAR *serverName, UINT32 authnService, SEC_WINNT_AUTH_IDENTITY_W *authIdentity,
     const FWPM_SESSION0 *session, HANDLE *engineHandle);
    DWORD(WINAPI *engine_close)(HANDLE engineHandle);
    void(WINAPI *free_memory)(void **p);

    DWORD(WINAPI *transaction_begin)(HANDLE engineHandle, UINT32 flags);
    DWORD(WINAPI *transaction_commit)(HANDLE engineHandle);
    DWORD(WINAPI *transaction_abort)(HANDLE engineHandle);

    DWORD(WINAPI *sa_context_create_enum_handle)
    (HANDLE engineHandle, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *enumTemplate, HANDLE *enumHandle);
    DWORD(WINAPI *sa_context_enum0)
    (HANDLE engineHandle, HANDLE enumHandle, UINT32 numEntriesRequested, IPSEC_SA_CONTEXT0 ***entries,
     UINT32 *numEntriesReturned);
    DWORD(WINAPI *sa_context_enum1)
    (HANDLE engineHandle, HANDLE enumHandle, UINT32 numEntriesRequested, IPSEC_SA_CONTEXT1 ***entries,
     UINT32 *numEntriesReturned);
    DWORD(WINAPI *sa_context_destroy_enum_handle)(HANDLE engineHandle, HANDLE enumHandle);

    DWORD(WINAPI *sa_context_get_by_id0)(HANDLE engineHandle, UINT64 id, IPSEC_SA_CONTEXT0 **saContext);
    DWORD(WINAPI *sa_context_get_by_id1)(HANDLE engineHandle, UINT64 id, IPSEC_SA_CONTEXT1 **saContext);
    DWORD(WINAPI *sa_context_expire)(HANDLE engineHandle, UINT64 id);
    DWORD(WINAPI *sa_context_delete_by_id)(HANDLE engineHandle, UINT64 id);

    DWORD(WINAPI *sa_context_create1)
    (HANDLE engineHandle, const IPSEC_TRAFFIC1 *outboundTraffic,
     const IPSEC_VIRTUAL_IF_TUNNEL_INFO0 *virtualIfTunnelInfo, UINT64 *inboundFilterId, UINT64 *id);
    DWORD(WINAPI *sa_context_get_spi1)
    (HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI *inboundSpi);
    DWORD(WINAPI *sa_context_set_spi)
    (HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI inboundSpi);
    DWORD(WINAPI *sa_context_add_inbound1)(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *inboundBundle);
    DWORD(WINAPI *sa_context_add_outbound1)(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *outboundBundle);
    /* 64-bit flags: the docs page and mingw say 32, the SDK and the import library's @16 say 64. */
    DWORD(WINAPI *sa_context_update)(HANDLE engineHandle, UINT64 flags, const IPSEC_SA_CONTEXT1 *newValues);

    DWORD(WINAPI *sa_context_subscribe)
    (HANDLE engineHandle, const IPSEC_SA_CONTEXT_SUBSCRIPTION0 *subscription, IPSEC_SA_CONTEXT_CALLBACK0 callback,
     void *context, HANDLE *eventsHandle);
    DWORD(WINAPI *sa_context_unsubscribe)(HANDLE engineHandle, HANDLE eventsHandle);
    DWORD(WINAPI *sa_context_subscriptions_get)
    (HANDLE engineHandle, IPSEC_SA_CONTEXT_SUBSCRIPTION0 ***entries, UINT32 *numEntries);

    DWORD(WINAPI *get_statistics1)(HANDLE engineHandle, IPSEC_STATISTICS1 *ipsecStatistics);
};

#ifdef _WIN32
extern const struct wfpsa_backend wfpsa_windows_backend;
#endif
extern const struct wfpsa_backend wfpsa_embedded_backend;
extern const struct wfpsa_backend wfpsa_noop_backend; /* holds nothing and says yes at once */

#endif
