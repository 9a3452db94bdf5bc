/* The building of one structure version from a record; page.c includes it once for each version with CONTEXT,
 * DETAILS, VERSION and the function names set. */

static DETAILS *
PUT_DETAILS(char **at, const struct half *half, const struct traffic *traffic, FWP_DIRECTION direction, int keys)
{
    const struct policy *policy = &half->policy->policy;
    DETAILS *details = take(at, sizeof *details);
    memset(details, 0, sizeof *details);
    details->ipVersion = (FWP_IP_VERSION)half->ip_version;
    details->saDirection = direction;

    details->traffic.ipVersion = (FWP_IP_VERSION)traffic->ip_version;
    memcpy(details->traffic.localV6Address, traffic->local, 16);
    memcpy(details->traffic.remoteV6Address, traffic->remote, 16);
    details->traffic.trafficType = (IPSEC_TRAFFIC_TYPE)traffic->type;
    details->traffic.ipsecFilterId = half->filter_id;
    details->traffic.remotePort = traffic->remote_port;

    details->saBundle.flags = policy->flags;
    details->saBundle.lifetime.lifetimeSeconds = policy->lifetime_seconds;
    details->saBundle.lifetime.lifetimeKilobytes = policy->lifetime_kilobytes;
    details->saBundle.lifetime.lifetimePackets = policy->lifetime_packets;
    details->saBundle.idleTimeoutSeconds = policy->idle_timeout_seconds;
    details->saBundle.ndAllowClearTimeoutSeconds = policy->nd_allow_clear_timeout_seconds;
    details->saBundle.ipsecId = half->identity ? put_identity(at, half->identity) : NULL;
    details->saBundle.napContext = half->nap_context;
    details->saBundle.qmSaId = half->qm_sa_id;
    details->saBundle.numSAs = policy->num_sas;
    details->saBundle.saList = policy->listed ? put_sas(at, policy, half->spi, half->ah_spi, keys) : NULL;
    details->saBundle.keyModuleState = policy->has_key_module ? put_key_module(at, policy, keys) : NULL;
    details->saBundle.ipVersion = (FWP_IP_VERSION)policy->bundle_ip_version;
    details->saBundle.peerV4PrivateAddress = half->peer_private_address;
    details->saBundle.mmSaId = half->mm_sa_id;
    details->saBundle.pfsGroup = (IPSEC_PFS_GROUP)policy->pfs_group;

    if (half->udp_local_port || half->udp_remote_port) {
        details->udpEncapsulation = take(at, 8);
        details->udpEncapsulation->localUdpEncapPort = half->udp_local_port;
        details->udpEncapsulation->remoteUdpEncapPort = half->udp_remote_port;
    }
    details->transportFilter = half->filter ? put_filter(at, half->filter) : NULL;
#if VERSION >= 1
    details->traffic.localPort = traffic->local_port;
    details->traffic.ipProtocol = traffic->ip_protocol;
    details->traffic.localIfLuid = traffic->local_interface_luid;
    details->traffic.realIfProfileId = traffic->real_profile_id;
    details->saBundle.qmFilterId = half->qm_filter_id;
    if (half->rarity) {
        details->saBundle.saLookupContext = half->rarity->rarity.lookup_context;
        details->virtualIfTunnelInfo.virtualIfTunnelId = half->rarity->rarity.virtual_tunnel_id;
        details->virtualIfTunnelInfo.trafficSelectorId = half->rarity->rarity.traffic_selector_id;
    }
#endif
    return details;
}

static CONTEXT *
PUT_CONTEXT(char **at, const struct record *record, int keys)
{
    CONTEXT *context = take(at, sizeof *context);
    const struct traffic *inbound = record->inbound_traffic ? record->inbound_traffic : &record->traffic;
    context->saContextId = record->id;
    context->inboundSa = record->in.policy ? PUT_DETAILS(at, &record->in, inbound, FWP_DIRECTION_INBOUND, keys) : NULL;
    context->outboundSa =
        record->out.policy ? PUT_DETAILS(at, &record->out, &record->traffic, FWP_DIRECTION_OUTBOUND, keys) : NULL;
    return context;
}

#undef CONTEXT
#undef DETAILS
#undef VERSION
#undef PUT_DETAILS
#undef PUT_CONTEXT
