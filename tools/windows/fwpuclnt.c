/* fwpuclnt.dll for tests: the embedded engine behind the OS's own names, and the choice of the store it opens.
 *
 * The control surface of include/wfpsa/embedded.h is exported beside them. Never part of a wheel: what a Windows user
 * imports from is the fwpuclnt.dll of Windows.
 */
#include <string.h>

#include "wfpsa/backend.h"
#include "wfpsa/embedded.h"

/* The store that a session opens where serverName is NULL, as it must be for Windows; empty: the engine's default. */
static WCHAR default_store[WFPSA_STORE_NAME_MAX + 1];

void
wfpsa_dll_default_store(const uint16_t *name)
{
    size_t length = 0;
    while (name && length < WFPSA_STORE_NAME_MAX && name[length]) {
        length++;
    }
    memset(default_store, 0, sizeof default_store);
    if (length) {
        memcpy(default_store, name, length * sizeof *name);
    }
}

DWORD WINAPI
FwpmEngineOpen0(const WCHAR *serverName, UINT32 authnService, SEC_WINNT_AUTH_IDENTITY_W *authIdentity,
                const FWPM_SESSION0 *session, HANDLE *engineHandle)
{
    if (!serverName && default_store[0]) {
        serverName = default_store;
    }
    return wfpsa_embedded_backend.engine_open(serverName, authnService, authIdentity, session, engineHandle);
}

void WINAPI
FwpmFreeMemory0(void **p)
{
    wfpsa_embedded_backend.free_memory(p);
}

#define FORWARD(member, function, parameters, arguments)                                                              \
    DWORD WINAPI function parameters                                                                                  \
    {                                                                                                                 \
        return wfpsa_embedded_backend.member arguments;                                                               \
    }

FORWARD(engine_close, FwpmEngineClose0, (HANDLE engine), (engine))
FORWARD(transaction_begin, FwpmTransactionBegin0, (HANDLE engine, UINT32 flags), (engine, flags))
FORWARD(transaction_commit, FwpmTransactionCommit0, (HANDLE engine), (engine))
FORWARD(transaction_abort, FwpmTransactionAbort0, (HANDLE engine), (engine))
FORWARD(sa_context_create_enum_handle, IPsecSaContextCreateEnumHandle0,
        (HANDLE engine, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *wanted, HANDLE *handle), (engine, wanted, handle))
FORWARD(sa_context_enum0, IPsecSaContextEnum0,
        (HANDLE engine, HANDLE handle, UINT32 wanted, IPSEC_SA_CONTEXT0 ***entries, UINT32 *returned),
        (engine, handle, wanted, entries, returned))
FORWARD(sa_context_enum1, IPsecSaContextEnum1,
        (HANDLE engine, HANDLE handle, UINT32 wanted, IPSEC_SA_CONTEXT1 ***entries, UINT32 *returned),
        (engine, handle, wanted, entries, returned))
FORWARD(sa_context_destroy_enum_handle, IPsecSaContextDestroyEnumHandle0, (HANDLE engine, HANDLE handle),
        (engine, handle))
FORWARD(sa_context_get_by_id0, IPsecSaContextGetById0, (HANDLE engine, UINT64 id, IPSEC_SA_CONTEXT0 **found),
        (engine, id, found))
FORWARD(sa_context_get_by_id1, IPsecSaContextGetById1, (HANDLE engine, UINT64 id, IPSEC_SA_CONTEXT1 **found),
        (engine, id, found))
FORWARD(sa_context_expire, IPsecSaContextExpire0, (HANDLE engine, UINT64 id), (engine, id))
FORWARD(sa_context_delete_by_id, IPsecSaContextDeleteById0, (HANDLE engine, UINT64 id), (engine, id))
FORWARD(sa_context_create1, IPsecSaContextCreate1,
        (HANDLE engine, const IPSEC_TRAFFIC1 *traffic, const IPSEC_VIRTUAL_IF_TUNNEL_INFO0 *tunnel, UINT64 *filter,
         UINT64 *id),
        (engine, traffic, tunnel, filter, id))
FORWARD(sa_context_get_spi1, IPsecSaContextGetSpi1,
        (HANDLE engine, UINT64 id, const IPSEC_GETSPI1 *wanted, IPSEC_SA_SPI *spi), (engine, id, wanted, spi))
FORWARD(sa_context_set_spi, IPsecSaContextSetSpi0,
        (HANDLE engine, UINT64 id, const IPSEC_GETSPI1 *wanted, IPSEC_SA_SPI spi), (engine, id, wanted, spi))
FORWARD(sa_context_add_inbound1, IPsecSaContextAddInbound1, (HANDLE engine, UINT64 id, const IPSEC_SA_BUNDLE1 *bundle),
        (engine, id, bundle))
FORWARD(sa_context_add_outbound1, IPsecSaContextAddOutbound1,
        (HANDLE engine, UINT64 id, const IPSEC_SA_BUNDLE1 *bundle), (engine, id, bundle))
FORWARD(sa_context_update, IPsecSaContextUpdate0, (HANDLE engine, UINT64 flags, const IPSEC_SA_CONTEXT1 *values),
        (engine, flags, values))
FORWARD(sa_context_subscribe, IPsecSaContextSubscribe0,
        (HANDLE engine, const IPSEC_SA_CONTEXT_SUBSCRIPTION0 *subscription, IPSEC_SA_CONTEXT_CALLBACK0 callback,
         void *context, HANDLE *events),
        (engine, subscription, callback, context, events))
FORWARD(sa_context_unsubscribe, IPsecSaContextUnsubscribe0, (HANDLE engine, HANDLE events), (engine, events))
FORWARD(sa_context_subscriptions_get, IPsecSaContextSubscriptionsGet0,
        (HANDLE engine, IPSEC_SA_CONTEXT_SUBSCRIPTION0 ***entries, UINT32 *count), (engine, entries, count))
FORWARD(get_statistics1, IPsecGetStatistics1, (HANDLE engine, IPSEC_STATISTICS1 *statistics), (engine, statistics))
