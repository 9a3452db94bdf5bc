/* An engine that holds nothing and says yes at once: what the loops over an engine cost by themselves. */
#include "wfpsa/backend.h"

#include <stddef.h>

static int session, enumeration; /* what the handles point to: the same for everybody */

static DWORD WINAPI
engine_open(const WCHAR *serverName, UINT32 authnService, SEC_WINNT_AUTH_IDENTITY_W *authIdentity,
            const FWPM_SESSION0 *given, HANDLE *engineHandle)
{
    (void)serverName, (void)authnService, (void)authIdentity, (void)given;
    *engineHandle = &session;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
on_handle(HANDLE engineHandle)
{
    (void)engineHandle;
    return ERROR_SUCCESS;
}

static void WINAPI
free_memory(void **p)
{
    *p = NULL;
}

static DWORD WINAPI
transaction_begin(HANDLE engineHandle, UINT32 flags)
{
    (void)engineHandle, (void)flags;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_create_enum_handle(HANDLE engineHandle, const IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 *enumTemplate,
                              HANDLE *enumHandle)
{
    (void)engineHandle, (void)enumTemplate;
    *enumHandle = &enumeration;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_enum0(HANDLE engineHandle, HANDLE enumHandle, UINT32 numEntriesRequested, IPSEC_SA_CONTEXT0 ***entries,
                 UINT32 *numEntriesReturned)
{
    (void)engineHandle, (void)enumHandle, (void)numEntriesRequested;
    *entries = NULL;
    *numEntriesReturned = 0;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_enum1(HANDLE engineHandle, HANDLE enumHandle, UINT32 numEntriesRequested, IPSEC_SA_CONTEXT1 ***entries,
                 UINT32 *numEntriesReturned)
{
    (void)engineHandle, (void)enumHandle, (void)numEntriesRequested;
    *entries = NULL;
    *numEntriesReturned = 0;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
on_handles(HANDLE engineHandle, HANDLE other)
{
    (void)engineHandle, (void)other;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_get_by_id0(HANDLE engineHandle, UINT64 id, IPSEC_SA_CONTEXT0 **saContext)
{
    (void)engineHandle, (void)id;
    *saContext = NULL;
    return (DWORD)FWP_E_NOT_FOUND;
}

static DWORD WINAPI
sa_context_get_by_id1(HANDLE engineHandle, UINT64 id, IPSEC_SA_CONTEXT1 **saContext)
{
    (void)engineHandle, (void)id;
    *saContext = NULL;
    return (DWORD)FWP_E_NOT_FOUND;
}

static DWORD WINAPI
on_id(HANDLE engineHandle, UINT64 id)
{
    (void)engineHandle, (void)id;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_create1(HANDLE engineHandle, const IPSEC_TRAFFIC1 *outboundTraffic,
                   const IPSEC_VIRTUAL_IF_TUNNEL_INFO0 *virtualIfTunnelInfo, UINT64 *inboundFilterId, UINT64 *id)
{
    (void)engineHandle, (void)outboundTraffic, (void)virtualIfTunnelInfo, (void)inboundFilterId;
    *id = 1;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_get_spi1(HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI *inboundSpi)
{
    (void)engineHandle, (void)id, (void)getSpi;
    *inboundSpi = 1;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_set_spi(HANDLE engineHandle, UINT64 id, const IPSEC_GETSPI1 *getSpi, IPSEC_SA_SPI inboundSpi)
{
    (void)engineHandle, (void)id, (void)getSpi, (void)inboundSpi;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
on_bundle(HANDLE engineHandle, UINT64 id, const IPSEC_SA_BUNDLE1 *bundle)
{
    (void)engineHandle, (void)id, (void)bundle;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_update(HANDLE engineHandle, UINT64 flags, const IPSEC_SA_CONTEXT1 *newValues)
{
    (void)engineHandle, (void)flags, (void)newValues;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_subscribe(HANDLE engineHandle, const IPSEC_SA_CONTEXT_SUBSCRIPTION0 *subscription,
                     IPSEC_SA_CONTEXT_CALLBACK0 callback, void *context, HANDLE *eventsHandle)
{
    (void)engineHandle, (void)subscription, (void)callback, (void)context;
    *eventsHandle = &enumeration;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
sa_context_subscriptions_get(HANDLE engineHandle, IPSEC_SA_CONTEXT_SUBSCRIPTION0 ***entries, UINT32 *numEntries)
{
    (void)engineHandle;
    *entries = NULL;
    *numEntries = 0;
    return ERROR_SUCCESS;
}

static DWORD WINAPI
get_statistics1(HANDLE engineHandle, IPSEC_STATISTICS1 *ipsecStatistics)
{
    static const IPSEC_STATISTICS1 none;
    (void)engineHandle;
    *ipsecStatistics = none;
    return ERROR_SUCCESS;
}

const struct wfpsa_backend wfpsa_noop_backend = {
    .name = "noop",
    .engine_open = engine_open,
    .engine_close = on_handle,
    .free_memory = free_memory,
    .transaction_begin = transaction_begin,
    .transaction_commit = on_handle,
    .transaction_abort = on_handle,
    .sa_context_create_enum_handle = sa_context_create_enum_handle,
    .sa_context_enum0 = sa_context_enum0,
    .sa_context_enum1 = sa_context_enum1,
    .sa_context_destroy_enum_handle = on_handles,
    .sa_context_get_by_id0 = sa_context_get_by_id0,
    .sa_context_get_by_id1 = sa_context_get_by_id1,
    .sa_context_expire = on_id,
    .sa_context_delete_by_id = on_id,
    .sa_context_create1 = sa_context_create1,
    .sa_context_get_spi1 = sa_context_get_spi1,
    .sa_context_set_spi = sa_context_set_spi,
    .sa_context_add_inbound1 = on_bundle,
    .sa_context_add_outbound1 = on_bundle,
    .sa_context_update = sa_context_update,
    .sa_context_subscribe = sa_context_subscribe,
    .sa_context_unsubscribe = on_handles,
    .sa_context_subscriptions_get = sa_context_subscriptions_get,
    .get_statistics1 = get_statistics1,
};
