/* The ESP tunnel of an encrypted network. */
#include "agentd/net/encrypt_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/random.h"

/* ---- instance ----------------------------------------------------------------------------------
 *
 * Sequence numbers live in the kernel's associations. When those are lost (the host started again,
 * somebody flushed them) and came back with the same keys, they would start from 0 again: the peers
 * would take everything for replayed, and a cipher's nonces could repeat. So the keys depend on an
 * instance of either side, which every node tells the managers and they tell its peers. It is kept
 * as an association of no use, which goes when the others go. For the same reason associations of a
 * network or peer that left, and may come back, stay for as long as their keys may be in use. */

enum { MARKER_SPI = 0x00000ffe, INSTANCE_RANDOM_BYTES = 12 };

static struct xfrm_sa marker(void)
{
    struct xfrm_sa sa = { .esp = { .spi = MARKER_SPI } };

    sa.from = ip_from_v4((const uint8_t[]){ 127, 0, 0, 1 });
    sa.to = ip_from_v4((const uint8_t[]){ 127, 0, 0, 2 });
    return sa;
}

static void instance_set(struct encrypt *x, const uint8_t key[ENCRYPT_ESP_BYTES])
{
    memcpy(x->marker, key, sizeof(x->marker));
    for (size_t i = 0; i < INSTANCE_RANDOM_BYTES; i++)
        (void)snprintf(x->instance + 2 * i, sizeof(x->instance) - 2 * i, "%02x", key[i]);
}

int encrypt_esp_instance(struct encrypt *x, enum encrypt_instance_step step, struct err *e)
{
    const struct xfrm_scope scope = { .tag = ENCRYPT_TAG };
    struct xfrm_set have, want = { 0 };
    uint8_t fresh[ENCRYPT_ESP_BYTES];
    int rc = xfrm_read(&x->xfrm, &scope, &have, e);

    if (rc == 0 && have.sa_count == 1 && step != ENCRYPT_INSTANCE_RENEW) {
        instance_set(x, have.sas[0].esp.key);
        x->marked = true;
    } else if (rc == 0) {
        if (x->instance[0] == '\0' || x->marked || step == ENCRYPT_INSTANCE_RENEW) {
            random_bytes(fresh, sizeof(fresh));
            instance_set(x, fresh);
        }
        struct xfrm_sa *sa = xfrm_add_sa(&want);

        *sa = marker();
        memcpy(sa->esp.key, x->marker, sizeof(sa->esp.key));
        if (step != ENCRYPT_INSTANCE_LEARN)
            rc = xfrm_program(&x->xfrm, ENCRYPT_TAG, &have, &want, true, e);
        x->marked = step != ENCRYPT_INSTANCE_LEARN && rc >= 0;
    }
    xfrm_deinit(&have);
    xfrm_deinit(&want);
    return rc < 0 ? rc : 0;
}

/* ---- wanted ---- */

static int add_direction(struct secured *s, const struct encrypt_secret *secret,
                         const struct encrypt_end *from, const struct encrypt_end *to,
                         struct err *e)
{
    struct xfrm_sa sa = { .from = from->vtep, .to = to->vtep };
    int rc = encrypt_esp_key(secret, from, to, &sa.esp, e);

    if (rc == 0)
        *xfrm_add_sa(&s->esp) = sa;
    return rc;
}

/* A peer without an instance has no ESP, or the managers do not know it yet: no tunnel to it. */
static int add_peer(const struct encrypt *x, struct secured *s, const struct plan_peer *peer,
                    struct err *e)
{
    const struct net_plan *p = s->plan;
    const struct encrypt_end self = { p->self_vtep, x->instance };
    const struct encrypt_end other = { peer->vtep, peer->encryption_instance };
    struct encrypt_esp sending = { 0 };
    int rc = 0;

    if (other.instance[0] == '\0')
        return 0;
    for (size_t i = 0; rc == 0 && i < p->head->n_keys; i++) {
        const Skep__NetworkKey *k = p->head->keys[i];
        struct encrypt_secret secret = { .network_id = p->id, .epoch = k->epoch };

        memcpy(secret.key, k->key.data, sizeof(secret.key));
        rc = add_direction(s, &secret, &other, &self, e);
        if (rc == 0)
            rc = add_direction(s, &secret, &self, &other, e);
        if (rc == 0 && k->epoch == p->head->key_epoch)
            sending = s->esp.sas[s->esp.sa_count - 1].esp;
    }
    if (rc == 0)
        *xfrm_add_policy(&s->esp) = (struct xfrm_policy){
            .from = p->self_vtep, .to = peer->vtep, .port = s->port, .spi = sending.spi
        };
    return rc;
}

int encrypt_esp_want(struct encrypt *x, struct secured *s, struct err *e)
{
    int rc = encrypt_esp_instance(x, ENCRYPT_INSTANCE_MARK, e);

    xfrm_deinit(&s->esp);
    xfrm_add_policy(&s->esp)->port = s->port; /* blocks what none of the others takes */
    for (size_t i = 0; rc == 0 && i < s->plan->peer_count; i++)
        rc = add_peer(x, s, &s->plan->peers[i], e);
    xfrm_sort(&s->esp);
    return rc;
}

/* Associations that were there and are not any more. */
static bool is_lost(const struct secured *s, const struct xfrm_set *have)
{
    size_t at = 0;

    for (size_t i = 0; s->done && i < s->esp.sa_count; i++) {
        while (at < have->sa_count && xfrm_compare_sas(&have->sas[at], &s->esp.sas[i]) < 0)
            at++;
        if (at == have->sa_count || xfrm_compare_sas(&have->sas[at], &s->esp.sas[i]) != 0)
            return true;
    }
    return false;
}

int encrypt_esp_program(struct encrypt *x, struct secured *s, bool write, struct err *e)
{
    const struct xfrm_scope scope = { .tag = encrypt_tag(s), .port = s->port };
    struct xfrm_set have;
    int rc = xfrm_read(&x->xfrm, &scope, &have, e);

    if (rc == 0 && write && is_lost(s, &have)) {
        rc = encrypt_esp_instance(x, ENCRYPT_INSTANCE_RENEW, e);
        rc = rc < 0 ? rc : 1; /* the digests of all networks differ now: all is made anew */
    } else if (rc == 0) {
        rc = xfrm_program(&x->xfrm, scope.tag, &have, &s->esp, write, e);
    }
    xfrm_deinit(&have);
    return rc;
}

static bool is_kept(void *ctx, uint32_t tag, uint16_t port)
{
    const struct encrypt *x = ctx;

    if (tag == ENCRYPT_TAG)
        return !x->ending;
    if (tag != 0)
        return encrypt_by_tag(x, tag) != NULL;
    for (size_t i = 0; i < x->count; i++)
        if (x->items[i]->port == port)
            return true;
    return false;
}

int encrypt_esp_sweep(struct encrypt *x, struct err *e)
{
    const struct xfrm_broom broom = {
        .tag_base = ENCRYPT_TAG, .all = x->ending, .keep = is_kept, .ctx = x
    };

    return xfrm_sweep(&x->xfrm, &broom, e);
}
