/* The decoding of one structure version into the block of rows; columns.c includes it once for each version with
 * CONTEXT, DETAILS, TRAFFIC, VERSION and the function names set. */

static void
DECODE_TRAFFIC(struct block *block, unsigned row, const TRAFFIC *traffic)
{
    /* Versions come in no order: chosen by masks, as a wrong guess of the processor's costs more than both ways. */
    uint64_t is4 = 0 - (uint64_t)((uint32_t)traffic->ipVersion == FWP_IP_VERSION_V4);
    uint64_t is6 = 0 - (uint64_t)((uint32_t)traffic->ipVersion == FWP_IP_VERSION_V6);
    block->ip_version[row] = (uint8_t)((4 & is4) | (6 & is6) | (WFPSA_IP_VERSION_OTHER & ~(is4 | is6)));
    put_address(&block->local_address[row], traffic->localV4Address, is4, traffic->localV6Address, is6);
    put_address(&block->remote_address[row], traffic->remoteV4Address, is4, traffic->remoteV6Address, is6);
    block->traffic_type[row] = narrow_enum((uint32_t)traffic->trafficType);
    block->remote_port[row] = traffic->remotePort;
#if VERSION >= 1
    block->local_port[row] = traffic->localPort;
    block->ip_protocol[row] = traffic->ipProtocol;
    block->local_interface_luid[row] = traffic->localIfLuid;
    block->real_profile_id[row] = traffic->realIfProfileId;
#endif
}

static int
TRAFFIC_DIFFERS(const TRAFFIC *a, const TRAFFIC *b)
{
    uint32_t version = (uint32_t)a->ipVersion;
    if (version != (uint32_t)b->ipVersion || a->remotePort != b->remotePort) {
        return 1;
    }
#if VERSION >= 1
    if (a->localPort != b->localPort || a->ipProtocol != b->ipProtocol) {
        return 1;
    }
#endif
    if (version == FWP_IP_VERSION_V4) {
        return a->localV4Address != b->localV4Address || a->remoteV4Address != b->remoteV4Address;
    }
    if (version == FWP_IP_VERSION_V6) {
        return memcmp(a->localV6Address, b->localV6Address, 16) != 0 ||
               memcmp(a->remoteV6Address, b->remoteV6Address, 16) != 0;
    }
    return 0;
}

static int
IN_SUBNETS(const DETAILS *details, const struct wfpsa_subnets *subnets)
{
    const TRAFFIC *traffic;
    struct wfpsa_bytes16 local, remote;
    uint8_t family;
    if (!details) {
        return 0;
    }
    traffic = &details->traffic;
    if ((uint32_t)traffic->ipVersion == FWP_IP_VERSION_V4) {
        family = 4;
        put_address(&local, traffic->localV4Address, UINT64_MAX, traffic->localV6Address, 0);
        put_address(&remote, traffic->remoteV4Address, UINT64_MAX, traffic->remoteV6Address, 0);
    } else if ((uint32_t)traffic->ipVersion == FWP_IP_VERSION_V6) {
        family = 6;
        memcpy(&local, traffic->localV6Address, 16);
        memcpy(&remote, traffic->remoteV6Address, 16);
    } else {
        return subnets->local.family == 0 && subnets->remote.family == 0;
    }
    return in_subnet(&subnets->local, family, &local) && in_subnet(&subnets->remote, family, &remote);
}

static void
WIPE_DETAILS(const DETAILS *details)
{
    if (details) {
        wipe_sas(details->saBundle.saList, details->saBundle.numSAs);
        wipe_key_module_state(details->saBundle.keyModuleState);
    }
}

/* The algorithms of the SAs in the list. */
static void
DECODE_ALGORITHMS(struct sa_block *sa, unsigned row, const IPSEC_SA0 *list, uint32_t count)
{
    const IPSEC_SA_AUTH_INFORMATION0 *auth = NULL, *ah = NULL;
    const IPSEC_SA_CIPHER_INFORMATION0 *cipher = NULL, *unused = NULL;
    if (list && count >= 1) {
        sa_algorithms(&list[0], &auth, &cipher);
    }
    if (list && count >= 2) {
        sa_algorithms(&list[1], &ah, &unused);
    }
    sa->auth_type[row] =
        auth ? narrow_enum((uint32_t)auth->authTransform.authTransformId.authType) : WFPSA_ENUM_ABSENT;
    sa->auth_config[row] = auth ? narrow_enum(auth->authTransform.authTransformId.authConfig) : WFPSA_ENUM_ABSENT;
    sa->cipher_type[row] =
        cipher ? narrow_enum((uint32_t)cipher->cipherTransform.cipherTransformId.cipherType) : WFPSA_ENUM_ABSENT;
    sa->cipher_config[row] =
        cipher ? narrow_enum(cipher->cipherTransform.cipherTransformId.cipherConfig) : WFPSA_ENUM_ABSENT;
    sa->ah_auth_type[row] = ah ? narrow_enum((uint32_t)ah->authTransform.authTransformId.authType) : WFPSA_ENUM_ABSENT;
    sa->ah_auth_config[row] = ah ? narrow_enum(ah->authTransform.authTransformId.authConfig) : WFPSA_ENUM_ABSENT;
}

static void
DECODE_BUNDLE(struct sa_block *sa, unsigned row, const DETAILS *details)
{
    sa->sa_count[row] = narrow_enum(details->saBundle.numSAs);
    sa->bundle_flags[row] = details->saBundle.flags;
    sa->lifetime_kilobytes[row] = details->saBundle.lifetime.lifetimeKilobytes;
    sa->lifetime_packets[row] = details->saBundle.lifetime.lifetimePackets;
    sa->idle_timeout_seconds[row] = details->saBundle.idleTimeoutSeconds;
    sa->nd_allow_clear_timeout_seconds[row] = details->saBundle.ndAllowClearTimeoutSeconds;
    sa->nap_context[row] = details->saBundle.napContext;
    sa->qm_sa_id[row] = details->saBundle.qmSaId;
    sa->pfs_group[row] = narrow_enum((uint32_t)details->saBundle.pfsGroup);
    sa->peer_private_address[row] =
        (uint32_t)details->saBundle.ipVersion == FWP_IP_VERSION_V4 ? details->saBundle.peerV4PrivateAddress : 0;
#if VERSION >= 1
    sa->qm_filter_id[row] = details->saBundle.qmFilterId;
    memcpy(&sa->lookup_context[row], &details->saBundle.saLookupContext, 16);
    sa->virtual_tunnel_id[row] = details->virtualIfTunnelInfo.virtualIfTunnelId;
    sa->traffic_selector_id[row] = details->virtualIfTunnelInfo.trafficSelectorId;
#endif
}

/* One direction, of it what is wanted; 0 without memory for a name. */
static int
DECODE_SA(struct wfpsa_columns *columns, struct sa_block *sa, unsigned row, const DETAILS *details, unsigned wants,
          unsigned *presence)
{
    const IPSEC_SA0 *list = details->saBundle.saList;
    uint32_t count = details->saBundle.numSAs;
    int has_first = list && count >= 1, has_second = list && count >= 2;
    *presence |= (has_first ? WFPSA_PRESENT_FIRST_IN : 0u) | (has_second ? WFPSA_PRESENT_SECOND_IN : 0u);
    if (wants & WANT_LIST) {
        sa->spi[row] = has_first ? list[0].spi : 0;
        sa->transform[row] = has_first ? narrow_enum((uint32_t)list[0].saTransformType) : WFPSA_ENUM_ABSENT;
        sa->ah_spi[row] = has_second ? list[1].spi : 0;
    }
    if (wants & WANT_ALGORITHMS) {
        DECODE_ALGORITHMS(sa, row, list, count);
    }
    if (wants & WANT_CORE) {
        sa->lifetime_seconds[row] = details->saBundle.lifetime.lifetimeSeconds;
        sa->mm_sa_id[row] = details->saBundle.mmSaId;
        sa->filter_id[row] = details->traffic.ipsecFilterId; /* one union with tunnelPolicyId */
    }
    if (wants & WANT_BUNDLE) {
        DECODE_BUNDLE(sa, row, details);
    }
    if (wants & WANT_FILTER) {
        sa->transport_filter_id[row] = details->transportFilter ? details->transportFilter->filterId : 0;
    }
    if (wants & WANT_UDP) {
        const IPSEC_V4_UDP_ENCAPSULATION0 *udp = /* meaningless for IPv6 */
            (uint32_t)details->ipVersion == FWP_IP_VERSION_V4 ? details->udpEncapsulation : NULL;
        sa->udp_local_port[row] = udp ? udp->localUdpEncapPort : 0;
        sa->udp_remote_port[row] = udp ? udp->remoteUdpEncapPort : 0;
    }
    if (wants & WANT_KEY_MODULE) {
        if (details->saBundle.keyModuleState) {
            memcpy(&sa->key_module[row], &details->saBundle.keyModuleState->keyModuleKey, 16);
        } else {
            memset(&sa->key_module[row], 0, 16);
        }
    }
    /* The peer most often has the same names in both directions, of which the inbound one comes first. */
    const struct sa_block *before = &columns->builder->block.in;
    const IPSEC_ID0 *id = details->saBundle.ipsecId;
    if (wants & WANT_MAIN_MODE) {
        const uint16_t *name = id ? (const uint16_t *)id->mmTargetName : NULL;
        uint32_t likely = sa != before ? before->main_mode_target[row] : 0;
        sa->main_mode_target[row] = 0;
        if (!names_code(&columns->builder->names, &columns->strings, name, likely, &sa->main_mode_target[row])) {
            return 0;
        }
    }
    if (wants & WANT_EXTENDED_MODE) {
        const uint16_t *name = id ? (const uint16_t *)id->emTargetName : NULL;
        uint32_t likely = sa != before ? before->extended_mode_target[row] : 0;
        sa->extended_mode_target[row] = 0;
        if (!names_code(&columns->builder->names, &columns->strings, name, likely, &sa->extended_mode_target[row])) {
            return 0;
        }
    }
    return 1;
}

static int
DECODE_CONTEXT(struct wfpsa_columns *columns, unsigned row, const CONTEXT *context)
{
    struct wfpsa_builder *builder = columns->builder;
    struct block *block = &builder->block;
    const DETAILS *in = context->inboundSa, *out = context->outboundSa;
    unsigned in_bits = 0, out_bits = 0;

    block->context_id[row] = context->saContextId;
    block->has_inbound[row] = in != NULL;
    block->has_outbound[row] = out != NULL;
    block->presence[row] = (uint8_t)((in ? WFPSA_PRESENT_INBOUND : 0) | (out ? WFPSA_PRESENT_OUTBOUND : 0));
    if (builder->wants_in & WANT_DIFFERS) {
        block->traffic_differs[row] = in && out && TRAFFIC_DIFFERS(&in->traffic, &out->traffic);
    }
    if (in || out) {
        const TRAFFIC *traffic = out ? &out->traffic : &in->traffic;
        if ((uint32_t)traffic->ipVersion <= FWP_IP_VERSION_V6) {
            block->presence[row] |= WFPSA_PRESENT_ADDRESS;
        }
        if (builder->wants_in & WANT_TRAFFIC) {
            DECODE_TRAFFIC(block, row, traffic);
        }
    } else {
        clear_traffic(block, row);
    }
    if (!in) {
        clear_sa(&block->in, row);
    } else if (!DECODE_SA(columns, &block->in, row, in, builder->wants_in, &in_bits)) {
        return 0;
    }
    if (!out) {
        clear_sa(&block->out, row);
    } else if (!DECODE_SA(columns, &block->out, row, out, builder->wants_out, &out_bits)) {
        return 0;
    }
    block->presence[row] |= (uint8_t)(in_bits | out_bits << 1);
    return 1;
}

void
WIPE_PAGE(CONTEXT *const *page, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (page[i]) {
            WIPE_DETAILS(page[i]->inboundSa);
            WIPE_DETAILS(page[i]->outboundSa);
        }
    }
}

int
APPEND(struct wfpsa_columns *columns, CONTEXT *const *page, uint32_t count, const struct wfpsa_subnets *subnets)
{
    unsigned row = 0;
    uint32_t i = 0;
    int status = wfpsa_columns_reserve(columns, count);
    for (; status == WFPSA_OK && i < count; i++) {
        const CONTEXT *context = page[i];
        /* What will be read of the contexts ahead is asked for a few turns before: a page's structures point to one
         * another, and a processor that waits for one cannot know where the next is. Not a function of its own: GCC
         * takes one that only prefetches for one that does nothing. */
        if (count - i > CONTEXT_AHEAD && page[i + DETAILS_AHEAD] && page[i + LIST_AHEAD]) {
            const DETAILS *sides[2] = {page[i + DETAILS_AHEAD]->inboundSa, page[i + DETAILS_AHEAD]->outboundSa};
            const DETAILS *nearer[2] = {page[i + LIST_AHEAD]->inboundSa, page[i + LIST_AHEAD]->outboundSa};
            wfpsa_prefetch(page[i + CONTEXT_AHEAD]);
            for (int side = 0; side < 2; side++) {
                for (size_t line = 0; sides[side] && line < sizeof(DETAILS); line += LINE_BYTES) {
                    wfpsa_prefetch((const char *)sides[side] + line);
                }
                if (nearer[side] && nearer[side]->saBundle.saList) {
                    wfpsa_prefetch(nearer[side]->saBundle.saList);
                    wfpsa_prefetch((const char *)nearer[side]->saBundle.saList + LINE_BYTES);
                }
            }
        }
        if (!context) { /* never seen from the OS; there is nothing to show */
            continue;
        }
        if (!subnets || IN_SUBNETS(context->outboundSa, subnets) || IN_SUBNETS(context->inboundSa, subnets)) {
            if (!DECODE_CONTEXT(columns, row, context)) {
                status = WFPSA_NO_MEMORY;
                break; /* this context is wiped below */
            }
            if (++row == BLOCK_ROWS) {
                flush(columns, row);
                row = 0;
            }
        }
        WIPE_DETAILS(context->inboundSa);
        WIPE_DETAILS(context->outboundSa);
    }
    flush(columns, row);
    if (i < count) {
        WIPE_PAGE(page + i, count - i);
    }
    return status;
}

#undef CONTEXT
#undef DETAILS
#undef TRAFFIC
#undef VERSION
#undef DECODE_TRAFFIC
#undef TRAFFIC_DIFFERS
#undef IN_SUBNETS
#undef WIPE_DETAILS
#undef DECODE_ALGORITHMS
#undef DECODE_BUNDLE
#undef DECODE_SA
#undef DECODE_CONTEXT
#undef APPEND
#undef WIPE_PAGE
