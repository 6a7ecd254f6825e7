/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Settings that the loader writes before the verifier looks, so that branches
 * they rule out vanish.
 */
#ifndef PLEXUS_CONFIG_H
#define PLEXUS_CONFIG_H

/* Bytes of the link-layer header that packets of the device start with: 14 for
 * Ethernet, 0 for a device that carries bare IP packets, as TUN and WireGuard do.
 */
volatile const __u32 cfg_l2_len = 14;

#endif
