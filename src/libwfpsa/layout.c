/* Compile-time proof that the structures in use have the layout of the Windows SDK, field by field.
 *
 * The numbers are those of a compile of the SDK's headers for 64-bit and 32-bit Windows; every 64-bit platform
 * shares the first set, since the types have fixed widths. A wrong field fails the build here.
 */
#include "wfpsa/layout.h"

#include <stddef.h>

#include "wfpsa/wfp.h"

/* S(struct, size on 64 bits, on 32); F(struct, field, offset and size on 64 bits, on 32). */
#define WFPSA_LAYOUT_STRUCTS(S)                                                                                       \
    S(FWP_BYTE_ARRAY6, 6, 6)                                                                                          \
    S(FWP_BYTE_ARRAY16, 16, 16)                                                                                       \
    S(FWP_BYTE_BLOB, 16, 8)                                                                                           \
    S(FWP_V4_ADDR_AND_MASK, 8, 8)                                                                                     \
    S(FWP_V6_ADDR_AND_MASK, 17, 17)                                                                                   \
    S(FWP_VALUE0, 16, 8)                                                                                              \
    S(FWP_CONDITION_VALUE0, 16, 8)                                                                                    \
    S(FWPM_DISPLAY_DATA0, 16, 8)                                                                                      \
    S(FWPM_SESSION0, 72, 48)                                                                                          \
    S(FWPM_ACTION0, 20, 20)                                                                                           \
    S(FWPM_FILTER_CONDITION0, 40, 28)                                                                                 \
    S(FWPM_FILTER0, 200, 152)                                                                                         \
    S(IPSEC_SA_LIFETIME0, 12, 12)                                                                                     \
    S(IPSEC_AUTH_TRANSFORM_ID0, 8, 8)                                                                                 \
    S(IPSEC_AUTH_TRANSFORM0, 16, 12)                                                                                  \
    S(IPSEC_CIPHER_TRANSFORM_ID0, 8, 8)                                                                               \
    S(IPSEC_CIPHER_TRANSFORM0, 16, 12)                                                                                \
    S(IPSEC_SA_AUTH_INFORMATION0, 32, 20)                                                                             \
    S(IPSEC_SA_CIPHER_INFORMATION0, 32, 20)                                                                           \
    S(IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0, 64, 40)                                                                  \
    S(IPSEC_SA0, 16, 12)                                                                                              \
    S(IPSEC_KEYMODULE_STATE0, 32, 24)                                                                                 \
    S(IPSEC_TOKEN0, 24, 24)                                                                                           \
    S(IPSEC_ID0, 48, 32)                                                                                              \
    S(IPSEC_SA_BUNDLE0, 88, 72)                                                                                       \
    S(IPSEC_SA_BUNDLE1, 112, 96)                                                                                      \
    S(IPSEC_TRAFFIC0, 56, 56)                                                                                         \
    S(IPSEC_TRAFFIC1, 72, 72)                                                                                         \
    S(IPSEC_V4_UDP_ENCAPSULATION0, 4, 4)                                                                              \
    S(IPSEC_GETSPI1, 96, 88)                                                                                          \
    S(IPSEC_VIRTUAL_IF_TUNNEL_INFO0, 16, 16)                                                                          \
    S(IPSEC_SA_DETAILS0, 168, 144)                                                                                    \
    S(IPSEC_SA_DETAILS1, 224, 200)                                                                                    \
    S(IPSEC_SA_CONTEXT0, 24, 16)                                                                                      \
    S(IPSEC_SA_CONTEXT1, 24, 16)                                                                                      \
    S(IPSEC_SA_CONTEXT_ENUM_TEMPLATE0, 32, 16)                                                                        \
    S(IPSEC_SA_CONTEXT_SUBSCRIPTION0, 32, 24)                                                                         \
    S(IPSEC_SA_CONTEXT_CHANGE0, 16, 16)                                                                               \
    S(IPSEC_AGGREGATE_SA_STATISTICS0, 28, 28)                                                                         \
    S(IPSEC_ESP_DROP_PACKET_STATISTICS0, 20, 20)                                                                      \
    S(IPSEC_AH_DROP_PACKET_STATISTICS0, 16, 16)                                                                       \
    S(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, 40, 40)                                                                \
    S(IPSEC_TRAFFIC_STATISTICS1, 56, 56)                                                                              \
    S(IPSEC_STATISTICS1, 216, 216)

#define WFPSA_LAYOUT_FIELDS(F)                                                                                        \
    F(FWP_BYTE_ARRAY6, byteArray6, 0, 6, 0, 6)                                                                        \
    F(FWP_BYTE_ARRAY16, byteArray16, 0, 16, 0, 16)                                                                    \
    F(FWP_BYTE_BLOB, size, 0, 4, 0, 4)                                                                                \
    F(FWP_BYTE_BLOB, data, 8, 8, 4, 4)                                                                                \
    F(FWP_V4_ADDR_AND_MASK, addr, 0, 4, 0, 4)                                                                         \
    F(FWP_V4_ADDR_AND_MASK, mask, 4, 4, 4, 4)                                                                         \
    F(FWP_V6_ADDR_AND_MASK, addr, 0, 16, 0, 16)                                                                       \
    F(FWP_V6_ADDR_AND_MASK, prefixLength, 16, 1, 16, 1)                                                               \
    F(FWP_VALUE0, type, 0, 4, 0, 4)                                                                                   \
    F(FWP_VALUE0, uint8, 8, 1, 4, 1)                                                                                  \
    F(FWP_VALUE0, uint16, 8, 2, 4, 2)                                                                                 \
    F(FWP_VALUE0, uint32, 8, 4, 4, 4)                                                                                 \
    F(FWP_VALUE0, uint64, 8, 8, 4, 4)                                                                                 \
    F(FWP_VALUE0, int8, 8, 1, 4, 1)                                                                                   \
    F(FWP_VALUE0, int16, 8, 2, 4, 2)                                                                                  \
    F(FWP_VALUE0, int32, 8, 4, 4, 4)                                                                                  \
    F(FWP_VALUE0, int64, 8, 8, 4, 4)                                                                                  \
    F(FWP_VALUE0, float32, 8, 4, 4, 4)                                                                                \
    F(FWP_VALUE0, double64, 8, 8, 4, 4)                                                                               \
    F(FWP_VALUE0, byteArray16, 8, 8, 4, 4)                                                                            \
    F(FWP_VALUE0, byteBlob, 8, 8, 4, 4)                                                                               \
    F(FWP_VALUE0, sid, 8, 8, 4, 4)                                                                                    \
    F(FWP_VALUE0, sd, 8, 8, 4, 4)                                                                                     \
    F(FWP_VALUE0, tokenInformation, 8, 8, 4, 4)                                                                       \
    F(FWP_VALUE0, tokenAccessInformation, 8, 8, 4, 4)                                                                 \
    F(FWP_VALUE0, unicodeString, 8, 8, 4, 4)                                                                          \
    F(FWP_VALUE0, byteArray6, 8, 8, 4, 4)                                                                             \
    F(FWP_CONDITION_VALUE0, type, 0, 4, 0, 4)                                                                         \
    F(FWP_CONDITION_VALUE0, uint8, 8, 1, 4, 1)                                                                        \
    F(FWP_CONDITION_VALUE0, uint16, 8, 2, 4, 2)                                                                       \
    F(FWP_CONDITION_VALUE0, uint32, 8, 4, 4, 4)                                                                       \
    F(FWP_CONDITION_VALUE0, uint64, 8, 8, 4, 4)                                                                       \
    F(FWP_CONDITION_VALUE0, int8, 8, 1, 4, 1)                                                                         \
    F(FWP_CONDITION_VALUE0, int16, 8, 2, 4, 2)                                                                        \
    F(FWP_CONDITION_VALUE0, int32, 8, 4, 4, 4)                                                                        \
    F(FWP_CONDITION_VALUE0, int64, 8, 8, 4, 4)                                                                        \
    F(FWP_CONDITION_VALUE0, float32, 8, 4, 4, 4)                                                                      \
    F(FWP_CONDITION_VALUE0, double64, 8, 8, 4, 4)                                                                     \
    F(FWP_CONDITION_VALUE0, byteArray16, 8, 8, 4, 4)                                                                  \
    F(FWP_CONDITION_VALUE0, byteBlob, 8, 8, 4, 4)                                                                     \
    F(FWP_CONDITION_VALUE0, sid, 8, 8, 4, 4)                                                                          \
    F(FWP_CONDITION_VALUE0, sd, 8, 8, 4, 4)                                                                           \
    F(FWP_CONDITION_VALUE0, tokenInformation, 8, 8, 4, 4)                                                             \
    F(FWP_CONDITION_VALUE0, tokenAccessInformation, 8, 8, 4, 4)                                                       \
    F(FWP_CONDITION_VALUE0, unicodeString, 8, 8, 4, 4)                                                                \
    F(FWP_CONDITION_VALUE0, byteArray6, 8, 8, 4, 4)                                                                   \
    F(FWP_CONDITION_VALUE0, v4AddrMask, 8, 8, 4, 4)                                                                   \
    F(FWP_CONDITION_VALUE0, v6AddrMask, 8, 8, 4, 4)                                                                   \
    F(FWP_CONDITION_VALUE0, rangeValue, 8, 8, 4, 4)                                                                   \
    F(FWPM_DISPLAY_DATA0, name, 0, 8, 0, 4)                                                                           \
    F(FWPM_DISPLAY_DATA0, description, 8, 8, 4, 4)                                                                    \
    F(FWPM_SESSION0, sessionKey, 0, 16, 0, 16)                                                                        \
    F(FWPM_SESSION0, displayData, 16, 16, 16, 8)                                                                      \
    F(FWPM_SESSION0, flags, 32, 4, 24, 4)                                                                             \
    F(FWPM_SESSION0, txnWaitTimeoutInMSec, 36, 4, 28, 4)                                                              \
    F(FWPM_SESSION0, processId, 40, 4, 32, 4)                                                                         \
    F(FWPM_SESSION0, sid, 48, 8, 36, 4)                                                                               \
    F(FWPM_SESSION0, username, 56, 8, 40, 4)                                                                          \
    F(FWPM_SESSION0, kernelMode, 64, 4, 44, 4)                                                                        \
    F(FWPM_ACTION0, type, 0, 4, 0, 4)                                                                                 \
    F(FWPM_ACTION0, filterType, 4, 16, 4, 16)                                                                         \
    F(FWPM_ACTION0, calloutKey, 4, 16, 4, 16)                                                                         \
    F(FWPM_FILTER_CONDITION0, fieldKey, 0, 16, 0, 16)                                                                 \
    F(FWPM_FILTER_CONDITION0, matchType, 16, 4, 16, 4)                                                                \
    F(FWPM_FILTER_CONDITION0, conditionValue, 24, 16, 20, 8)                                                          \
    F(FWPM_FILTER0, filterKey, 0, 16, 0, 16)                                                                          \
    F(FWPM_FILTER0, displayData, 16, 16, 16, 8)                                                                       \
    F(FWPM_FILTER0, flags, 32, 4, 24, 4)                                                                              \
    F(FWPM_FILTER0, providerKey, 40, 8, 28, 4)                                                                        \
    F(FWPM_FILTER0, providerData, 48, 16, 32, 8)                                                                      \
    F(FWPM_FILTER0, layerKey, 64, 16, 40, 16)                                                                         \
    F(FWPM_FILTER0, subLayerKey, 80, 16, 56, 16)                                                                      \
    F(FWPM_FILTER0, weight, 96, 16, 72, 8)                                                                            \
    F(FWPM_FILTER0, numFilterConditions, 112, 4, 80, 4)                                                               \
    F(FWPM_FILTER0, filterCondition, 120, 8, 84, 4)                                                                   \
    F(FWPM_FILTER0, action, 128, 20, 88, 20)                                                                          \
    F(FWPM_FILTER0, rawContext, 152, 8, 112, 8)                                                                       \
    F(FWPM_FILTER0, providerContextKey, 152, 16, 112, 16)                                                             \
    F(FWPM_FILTER0, reserved, 168, 8, 128, 4)                                                                         \
    F(FWPM_FILTER0, filterId, 176, 8, 136, 8)                                                                         \
    F(FWPM_FILTER0, effectiveWeight, 184, 16, 144, 8)                                                                 \
    F(IPSEC_SA_LIFETIME0, lifetimeSeconds, 0, 4, 0, 4)                                                                \
    F(IPSEC_SA_LIFETIME0, lifetimeKilobytes, 4, 4, 4, 4)                                                              \
    F(IPSEC_SA_LIFETIME0, lifetimePackets, 8, 4, 8, 4)                                                                \
    F(IPSEC_AUTH_TRANSFORM_ID0, authType, 0, 4, 0, 4)                                                                 \
    F(IPSEC_AUTH_TRANSFORM_ID0, authConfig, 4, 1, 4, 1)                                                               \
    F(IPSEC_AUTH_TRANSFORM0, authTransformId, 0, 8, 0, 8)                                                             \
    F(IPSEC_AUTH_TRANSFORM0, cryptoModuleId, 8, 8, 8, 4)                                                              \
    F(IPSEC_CIPHER_TRANSFORM_ID0, cipherType, 0, 4, 0, 4)                                                             \
    F(IPSEC_CIPHER_TRANSFORM_ID0, cipherConfig, 4, 1, 4, 1)                                                           \
    F(IPSEC_CIPHER_TRANSFORM0, cipherTransformId, 0, 8, 0, 8)                                                         \
    F(IPSEC_CIPHER_TRANSFORM0, cryptoModuleId, 8, 8, 8, 4)                                                            \
    F(IPSEC_SA_AUTH_INFORMATION0, authTransform, 0, 16, 0, 12)                                                        \
    F(IPSEC_SA_AUTH_INFORMATION0, authKey, 16, 16, 12, 8)                                                             \
    F(IPSEC_SA_CIPHER_INFORMATION0, cipherTransform, 0, 16, 0, 12)                                                    \
    F(IPSEC_SA_CIPHER_INFORMATION0, cipherKey, 16, 16, 12, 8)                                                         \
    F(IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0, saCipherInformation, 0, 32, 0, 20)                                       \
    F(IPSEC_SA_AUTH_AND_CIPHER_INFORMATION0, saAuthInformation, 32, 32, 20, 20)                                       \
    F(IPSEC_SA0, spi, 0, 4, 0, 4)                                                                                     \
    F(IPSEC_SA0, saTransformType, 4, 4, 4, 4)                                                                         \
    F(IPSEC_SA0, ahInformation, 8, 8, 8, 4)                                                                           \
    F(IPSEC_SA0, espAuthInformation, 8, 8, 8, 4)                                                                      \
    F(IPSEC_SA0, espCipherInformation, 8, 8, 8, 4)                                                                    \
    F(IPSEC_SA0, espAuthAndCipherInformation, 8, 8, 8, 4)                                                             \
    F(IPSEC_SA0, espAuthFwInformation, 8, 8, 8, 4)                                                                    \
    F(IPSEC_KEYMODULE_STATE0, keyModuleKey, 0, 16, 0, 16)                                                             \
    F(IPSEC_KEYMODULE_STATE0, stateBlob, 16, 16, 16, 8)                                                               \
    F(IPSEC_TOKEN0, type, 0, 4, 0, 4)                                                                                 \
    F(IPSEC_TOKEN0, principal, 4, 4, 4, 4)                                                                            \
    F(IPSEC_TOKEN0, mode, 8, 4, 8, 4)                                                                                 \
    F(IPSEC_TOKEN0, token, 16, 8, 16, 8)                                                                              \
    F(IPSEC_ID0, mmTargetName, 0, 8, 0, 4)                                                                            \
    F(IPSEC_ID0, emTargetName, 8, 8, 4, 4)                                                                            \
    F(IPSEC_ID0, numTokens, 16, 4, 8, 4)                                                                              \
    F(IPSEC_ID0, tokens, 24, 8, 12, 4)                                                                                \
    F(IPSEC_ID0, explicitCredentials, 32, 8, 16, 8)                                                                   \
    F(IPSEC_ID0, logonId, 40, 8, 24, 8)                                                                               \
    F(IPSEC_SA_BUNDLE0, flags, 0, 4, 0, 4)                                                                            \
    F(IPSEC_SA_BUNDLE0, lifetime, 4, 12, 4, 12)                                                                       \
    F(IPSEC_SA_BUNDLE0, idleTimeoutSeconds, 16, 4, 16, 4)                                                             \
    F(IPSEC_SA_BUNDLE0, ndAllowClearTimeoutSeconds, 20, 4, 20, 4)                                                     \
    F(IPSEC_SA_BUNDLE0, ipsecId, 24, 8, 24, 4)                                                                        \
    F(IPSEC_SA_BUNDLE0, napContext, 32, 4, 28, 4)                                                                     \
    F(IPSEC_SA_BUNDLE0, qmSaId, 36, 4, 32, 4)                                                                         \
    F(IPSEC_SA_BUNDLE0, numSAs, 40, 4, 36, 4)                                                                         \
    F(IPSEC_SA_BUNDLE0, saList, 48, 8, 40, 4)                                                                         \
    F(IPSEC_SA_BUNDLE0, keyModuleState, 56, 8, 44, 4)                                                                 \
    F(IPSEC_SA_BUNDLE0, ipVersion, 64, 4, 48, 4)                                                                      \
    F(IPSEC_SA_BUNDLE0, peerV4PrivateAddress, 68, 4, 52, 4)                                                           \
    F(IPSEC_SA_BUNDLE0, mmSaId, 72, 8, 56, 8)                                                                         \
    F(IPSEC_SA_BUNDLE0, pfsGroup, 80, 4, 64, 4)                                                                       \
    F(IPSEC_SA_BUNDLE1, flags, 0, 4, 0, 4)                                                                            \
    F(IPSEC_SA_BUNDLE1, lifetime, 4, 12, 4, 12)                                                                       \
    F(IPSEC_SA_BUNDLE1, idleTimeoutSeconds, 16, 4, 16, 4)                                                             \
    F(IPSEC_SA_BUNDLE1, ndAllowClearTimeoutSeconds, 20, 4, 20, 4)                                                     \
    F(IPSEC_SA_BUNDLE1, ipsecId, 24, 8, 24, 4)                                                                        \
    F(IPSEC_SA_BUNDLE1, napContext, 32, 4, 28, 4)                                                                     \
    F(IPSEC_SA_BUNDLE1, qmSaId, 36, 4, 32, 4)                                                                         \
    F(IPSEC_SA_BUNDLE1, numSAs, 40, 4, 36, 4)                                                                         \
    F(IPSEC_SA_BUNDLE1, saList, 48, 8, 40, 4)                                                                         \
    F(IPSEC_SA_BUNDLE1, keyModuleState, 56, 8, 44, 4)                                                                 \
    F(IPSEC_SA_BUNDLE1, ipVersion, 64, 4, 48, 4)                                                                      \
    F(IPSEC_SA_BUNDLE1, peerV4PrivateAddress, 68, 4, 52, 4)                                                           \
    F(IPSEC_SA_BUNDLE1, mmSaId, 72, 8, 56, 8)                                                                         \
    F(IPSEC_SA_BUNDLE1, pfsGroup, 80, 4, 64, 4)                                                                       \
    F(IPSEC_SA_BUNDLE1, saLookupContext, 84, 16, 68, 16)                                                              \
    F(IPSEC_SA_BUNDLE1, qmFilterId, 104, 8, 88, 8)                                                                    \
    F(IPSEC_TRAFFIC0, ipVersion, 0, 4, 0, 4)                                                                          \
    F(IPSEC_TRAFFIC0, localV4Address, 4, 4, 4, 4)                                                                     \
    F(IPSEC_TRAFFIC0, localV6Address, 4, 16, 4, 16)                                                                   \
    F(IPSEC_TRAFFIC0, remoteV4Address, 20, 4, 20, 4)                                                                  \
    F(IPSEC_TRAFFIC0, remoteV6Address, 20, 16, 20, 16)                                                                \
    F(IPSEC_TRAFFIC0, trafficType, 36, 4, 36, 4)                                                                      \
    F(IPSEC_TRAFFIC0, ipsecFilterId, 40, 8, 40, 8)                                                                    \
    F(IPSEC_TRAFFIC0, tunnelPolicyId, 40, 8, 40, 8)                                                                   \
    F(IPSEC_TRAFFIC0, remotePort, 48, 2, 48, 2)                                                                       \
    F(IPSEC_TRAFFIC1, ipVersion, 0, 4, 0, 4)                                                                          \
    F(IPSEC_TRAFFIC1, localV4Address, 4, 4, 4, 4)                                                                     \
    F(IPSEC_TRAFFIC1, localV6Address, 4, 16, 4, 16)                                                                   \
    F(IPSEC_TRAFFIC1, remoteV4Address, 20, 4, 20, 4)                                                                  \
    F(IPSEC_TRAFFIC1, remoteV6Address, 20, 16, 20, 16)                                                                \
    F(IPSEC_TRAFFIC1, trafficType, 36, 4, 36, 4)                                                                      \
    F(IPSEC_TRAFFIC1, ipsecFilterId, 40, 8, 40, 8)                                                                    \
    F(IPSEC_TRAFFIC1, tunnelPolicyId, 40, 8, 40, 8)                                                                   \
    F(IPSEC_TRAFFIC1, remotePort, 48, 2, 48, 2)                                                                       \
    F(IPSEC_TRAFFIC1, localPort, 50, 2, 50, 2)                                                                        \
    F(IPSEC_TRAFFIC1, ipProtocol, 52, 1, 52, 1)                                                                       \
    F(IPSEC_TRAFFIC1, localIfLuid, 56, 8, 56, 8)                                                                      \
    F(IPSEC_TRAFFIC1, realIfProfileId, 64, 4, 64, 4)                                                                  \
    F(IPSEC_V4_UDP_ENCAPSULATION0, localUdpEncapPort, 0, 2, 0, 2)                                                     \
    F(IPSEC_V4_UDP_ENCAPSULATION0, remoteUdpEncapPort, 2, 2, 2, 2)                                                    \
    F(IPSEC_GETSPI1, inboundIpsecTraffic, 0, 72, 0, 72)                                                               \
    F(IPSEC_GETSPI1, ipVersion, 72, 4, 72, 4)                                                                         \
    F(IPSEC_GETSPI1, inboundUdpEncapsulation, 80, 8, 76, 4)                                                           \
    F(IPSEC_GETSPI1, rngCryptoModuleID, 88, 8, 80, 4)                                                                 \
    F(IPSEC_VIRTUAL_IF_TUNNEL_INFO0, virtualIfTunnelId, 0, 8, 0, 8)                                                   \
    F(IPSEC_VIRTUAL_IF_TUNNEL_INFO0, trafficSelectorId, 8, 8, 8, 8)                                                   \
    F(IPSEC_SA_DETAILS0, ipVersion, 0, 4, 0, 4)                                                                       \
    F(IPSEC_SA_DETAILS0, saDirection, 4, 4, 4, 4)                                                                     \
    F(IPSEC_SA_DETAILS0, traffic, 8, 56, 8, 56)                                                                       \
    F(IPSEC_SA_DETAILS0, saBundle, 64, 88, 64, 72)                                                                    \
    F(IPSEC_SA_DETAILS0, udpEncapsulation, 152, 8, 136, 4)                                                            \
    F(IPSEC_SA_DETAILS0, transportFilter, 160, 8, 140, 4)                                                             \
    F(IPSEC_SA_DETAILS1, ipVersion, 0, 4, 0, 4)                                                                       \
    F(IPSEC_SA_DETAILS1, saDirection, 4, 4, 4, 4)                                                                     \
    F(IPSEC_SA_DETAILS1, traffic, 8, 72, 8, 72)                                                                       \
    F(IPSEC_SA_DETAILS1, saBundle, 80, 112, 80, 96)                                                                   \
    F(IPSEC_SA_DETAILS1, udpEncapsulation, 192, 8, 176, 4)                                                            \
    F(IPSEC_SA_DETAILS1, transportFilter, 200, 8, 180, 4)                                                             \
    F(IPSEC_SA_DETAILS1, virtualIfTunnelInfo, 208, 16, 184, 16)                                                       \
    F(IPSEC_SA_CONTEXT0, saContextId, 0, 8, 0, 8)                                                                     \
    F(IPSEC_SA_CONTEXT0, inboundSa, 8, 8, 8, 4)                                                                       \
    F(IPSEC_SA_CONTEXT0, outboundSa, 16, 8, 12, 4)                                                                    \
    F(IPSEC_SA_CONTEXT1, saContextId, 0, 8, 0, 8)                                                                     \
    F(IPSEC_SA_CONTEXT1, inboundSa, 8, 8, 8, 4)                                                                       \
    F(IPSEC_SA_CONTEXT1, outboundSa, 16, 8, 12, 4)                                                                    \
    F(IPSEC_SA_CONTEXT_ENUM_TEMPLATE0, localSubNet, 0, 16, 0, 8)                                                      \
    F(IPSEC_SA_CONTEXT_ENUM_TEMPLATE0, remoteSubNet, 16, 16, 8, 8)                                                    \
    F(IPSEC_SA_CONTEXT_SUBSCRIPTION0, enumTemplate, 0, 8, 0, 4)                                                       \
    F(IPSEC_SA_CONTEXT_SUBSCRIPTION0, flags, 8, 4, 4, 4)                                                              \
    F(IPSEC_SA_CONTEXT_SUBSCRIPTION0, sessionKey, 12, 16, 8, 16)                                                      \
    F(IPSEC_SA_CONTEXT_CHANGE0, changeType, 0, 4, 0, 4)                                                               \
    F(IPSEC_SA_CONTEXT_CHANGE0, saContextId, 8, 8, 8, 8)                                                              \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, activeSas, 0, 4, 0, 4)                                                          \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, pendingSaNegotiations, 4, 4, 4, 4)                                              \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, totalSasAdded, 8, 4, 8, 4)                                                      \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, totalSasDeleted, 12, 4, 12, 4)                                                  \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, successfulRekeys, 16, 4, 16, 4)                                                 \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, activeTunnels, 20, 4, 20, 4)                                                    \
    F(IPSEC_AGGREGATE_SA_STATISTICS0, offloadedSas, 24, 4, 24, 4)                                                     \
    F(IPSEC_ESP_DROP_PACKET_STATISTICS0, invalidSpisOnInbound, 0, 4, 0, 4)                                            \
    F(IPSEC_ESP_DROP_PACKET_STATISTICS0, decryptionFailuresOnInbound, 4, 4, 4, 4)                                     \
    F(IPSEC_ESP_DROP_PACKET_STATISTICS0, authenticationFailuresOnInbound, 8, 4, 8, 4)                                 \
    F(IPSEC_ESP_DROP_PACKET_STATISTICS0, replayCheckFailuresOnInbound, 12, 4, 12, 4)                                  \
    F(IPSEC_ESP_DROP_PACKET_STATISTICS0, saNotInitializedOnInbound, 16, 4, 16, 4)                                     \
    F(IPSEC_AH_DROP_PACKET_STATISTICS0, invalidSpisOnInbound, 0, 4, 0, 4)                                             \
    F(IPSEC_AH_DROP_PACKET_STATISTICS0, authenticationFailuresOnInbound, 4, 4, 4, 4)                                  \
    F(IPSEC_AH_DROP_PACKET_STATISTICS0, replayCheckFailuresOnInbound, 8, 4, 8, 4)                                     \
    F(IPSEC_AH_DROP_PACKET_STATISTICS0, saNotInitializedOnInbound, 12, 4, 12, 4)                                      \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, invalidSpisOnInbound, 0, 4, 0, 4)                                      \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, decryptionFailuresOnInbound, 4, 4, 4, 4)                               \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, authenticationFailuresOnInbound, 8, 4, 8, 4)                           \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, udpEspValidationFailuresOnInbound, 12, 4, 12, 4)                       \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, replayCheckFailuresOnInbound, 16, 4, 16, 4)                            \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, invalidClearTextInbound, 20, 4, 20, 4)                                 \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, saNotInitializedOnInbound, 24, 4, 24, 4)                               \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, receiveOverIncorrectSaInbound, 28, 4, 28, 4)                           \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, secureReceivesNotMatchingFilters, 32, 4, 32, 4)                        \
    F(IPSEC_AGGREGATE_DROP_PACKET_STATISTICS1, totalDropPacketsInbound, 36, 4, 36, 4)                                 \
    F(IPSEC_TRAFFIC_STATISTICS1, encryptedByteCount, 0, 8, 0, 8)                                                      \
    F(IPSEC_TRAFFIC_STATISTICS1, authenticatedAHByteCount, 8, 8, 8, 8)                                                \
    F(IPSEC_TRAFFIC_STATISTICS1, authenticatedESPByteCount, 16, 8, 16, 8)                                             \
    F(IPSEC_TRAFFIC_STATISTICS1, transportByteCount, 24, 8, 24, 8)                                                    \
    F(IPSEC_TRAFFIC_STATISTICS1, tunnelByteCount, 32, 8, 32, 8)                                                       \
    F(IPSEC_TRAFFIC_STATISTICS1, offloadByteCount, 40, 8, 40, 8)                                                      \
    F(IPSEC_TRAFFIC_STATISTICS1, totalSuccessfulPackets, 48, 8, 48, 8)                                                \
    F(IPSEC_STATISTICS1, aggregateSaStatistics, 0, 28, 0, 28)                                                         \
    F(IPSEC_STATISTICS1, espDropPacketStatistics, 28, 20, 28, 20)                                                     \
    F(IPSEC_STATISTICS1, ahDropPacketStatistics, 48, 16, 48, 16)                                                      \
    F(IPSEC_STATISTICS1, aggregateDropPacketStatistics, 64, 40, 64, 40)                                               \
    F(IPSEC_STATISTICS1, inboundTrafficStatistics, 104, 56, 104, 56)                                                  \
    F(IPSEC_STATISTICS1, outboundTrafficStatistics, 160, 56, 160, 56)

#if defined(_WIN64) || (!defined(_WIN32) && UINTPTR_MAX == UINT64_MAX)
#define WFPSA_PICK(for64, for32) (for64)
#elif defined(_WIN32)
#define WFPSA_PICK(for64, for32) (for32)
#else
#error "wfpsa supports 64-bit platforms, and Windows on 32 bits"
#endif

#define ASSERT_STRUCT(type, size64, size32)                                                                           \
    _Static_assert(sizeof(type) == WFPSA_PICK(size64, size32), "size of " #type);
WFPSA_LAYOUT_STRUCTS(ASSERT_STRUCT)

#define ASSERT_FIELD(type, field, offset64, size64, offset32, size32)                                                 \
    _Static_assert(offsetof(type, field) == WFPSA_PICK(offset64, offset32), "offset of " #type "." #field);           \
    _Static_assert(sizeof(((type *)0)->field) == WFPSA_PICK(size64, size32), "size of " #type "." #field);
WFPSA_LAYOUT_FIELDS(ASSERT_FIELD)

/* Values that the code branches on. Older mingw-w64 starts the transform and cipher enums at 0. */
_Static_assert(sizeof(FWP_IP_VERSION) == 4 && sizeof(IPSEC_TRANSFORM_TYPE) == 4, "enums are 4 bytes");
_Static_assert(FWP_IP_VERSION_V4 == 0 && FWP_IP_VERSION_V6 == 1, "FWP_IP_VERSION");
_Static_assert(FWP_DIRECTION_OUTBOUND == 0 && FWP_DIRECTION_INBOUND == 1, "FWP_DIRECTION");
_Static_assert(FWP_EMPTY == 0 && FWP_UINT32 == 3 && FWP_BYTE_ARRAY16_TYPE == 11, "FWP_DATA_TYPE");
_Static_assert(FWP_V4_ADDR_MASK == 0x100 && FWP_V6_ADDR_MASK == 0x101, "FWP_DATA_TYPE masks");
_Static_assert(IPSEC_TRANSFORM_AH == 1 && IPSEC_TRANSFORM_ESP_AUTH == 2, "IPSEC_TRANSFORM_TYPE");
_Static_assert(IPSEC_TRANSFORM_ESP_CIPHER == 3 && IPSEC_TRANSFORM_ESP_AUTH_AND_CIPHER == 4, "IPSEC_TRANSFORM_TYPE");
_Static_assert(IPSEC_TRANSFORM_ESP_AUTH_FW == 5, "IPSEC_TRANSFORM_TYPE");
_Static_assert(IPSEC_AUTH_MD5 == 0 && IPSEC_AUTH_SHA_256 == 2 && IPSEC_AUTH_AES_256 == 5, "IPSEC_AUTH_TYPE");
_Static_assert(IPSEC_CIPHER_TYPE_DES == 1 && IPSEC_CIPHER_TYPE_AES_256 == 5, "IPSEC_CIPHER_TYPE");
_Static_assert(IPSEC_TRAFFIC_TYPE_TRANSPORT == 0 && IPSEC_TRAFFIC_TYPE_TUNNEL == 1, "IPSEC_TRAFFIC_TYPE");
_Static_assert(IPSEC_PFS_NONE == 0 && IPSEC_PFS_ECP_384 == 5 && IPSEC_PFS_24 == 7, "IPSEC_PFS_GROUP");
_Static_assert((DWORD)FWP_E_NOT_FOUND == 0x80320008 && (DWORD)FWP_E_TYPE_MISMATCH == 0x80320027, "FWP_E codes");
_Static_assert(sizeof(WCHAR) == 2 && sizeof(DWORD) == 4 && sizeof(BOOL) == 4 && sizeof(GUID) == 16, "base types");

#define ROW_STRUCT(type, size64, size32) {#type, "", 0, sizeof(type)},
#define ROW_FIELD(type, field, offset64, size64, offset32, size32)                                                    \
    {#type, #field, offsetof(type, field), sizeof(((type *)0)->field)},

static const struct wfpsa_layout rows[] = {WFPSA_LAYOUT_STRUCTS(ROW_STRUCT) WFPSA_LAYOUT_FIELDS(ROW_FIELD)};

const struct wfpsa_layout *
wfpsa_layout_at(uint32_t index)
{
    return index < sizeof rows / sizeof rows[0] ? &rows[index] : NULL;
}
