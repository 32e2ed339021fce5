/* The ESP tunnel of an encrypted network. */
#include "agentd/net/encrypt_internal.h"

#include <string.h>

#include "common/log.h"

static int add_direction(struct secured *s, const struct encrypt_secret *secret,
                         const struct ip *from, const struct ip *to, struct err *e)
{
    struct xfrm_sa sa = { .from = *from, .to = *to };
    int rc = encrypt_esp_key(secret, from, to, &sa.esp, e);

    if (rc == 0)
        *xfrm_add_sa(&s->esp) = sa;
    return rc;
}

static int add_peer(struct secured *s, const struct plan_peer *peer, struct err *e)
{
    const struct net_plan *p = s->plan;
    struct encrypt_esp sending = { 0 };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < p->head->n_keys; i++) {
        const Skep__NetworkKey *k = p->head->keys[i];
        struct encrypt_secret secret = { .network_id = p->id, .epoch = k->epoch };

        memcpy(secret.key, k->key.data, sizeof(secret.key));
        rc = add_direction(s, &secret, &peer->vtep, &p->self_vtep, e);
        if (rc == 0)
            rc = add_direction(s, &secret, &p->self_vtep, &peer->vtep, e);
        if (rc == 0 && k->epoch == p->head->key_epoch)
            sending = s->esp.sas[s->esp.sa_count - 1].esp;
    }
    if (rc == 0)
        *xfrm_add_policy(&s->esp) = (struct xfrm_policy){
            .from = p->self_vtep, .to = peer->vtep, .port = p->vxlan_port, .spi = sending.spi
        };
    return rc;
}

int encrypt_esp_want(struct encrypt *x, struct secured *s, struct err *e)
{
    int rc = 0;

    (void)x;
    xfrm_deinit(&s->esp);
    for (size_t i = 0; rc == 0 && i < s->plan->peer_count; i++)
        rc = add_peer(s, &s->plan->peers[i], e);
    xfrm_sort(&s->esp);
    return rc;
}

int encrypt_esp_program(struct encrypt *x, struct secured *s, bool write, struct err *e)
{
    struct xfrm_set have;
    int rc = xfrm_read(&x->xfrm, encrypt_mark(s), &have, e);

    if (rc == 0)
        rc = xfrm_program(&x->xfrm, encrypt_mark(s), &have, &s->esp, write, e);
    xfrm_deinit(&have);
    return rc;
}

void encrypt_esp_remove(struct encrypt *x, struct secured *s)
{
    struct err e = { 0 };

    xfrm_deinit(&s->esp);
    if (encrypt_esp_program(x, s, true, &e) < 0)
        log_warn("net.encrypt", "network=%s error=\"%s\"", s->id, e.message);
}
