/* Service specs out of options: what `service create` builds and `service update` changes. Both use
 * spec_apply() for the options that they share; only flags that were given change anything. In the
 * command's arena; reads env files and the docker configuration, talks to the manager only to find
 * the ids of secrets and configs. */
#ifndef SKEP_CTL_SPEC_H
#define SKEP_CTL_SPEC_H

#include "ctl/cmd.h"
#include "ctl/parse.h"
#include "proto/specs.pb-c.h"

/* A new spec from create's options and arguments. */
int spec_create(struct ctl *c, Skep__ServiceSpec **ret, struct err *e) MUST_CHECK;
/* Changes a spec as read from the manager by update's options. */
int spec_update(struct ctl *c, Skep__ServiceSpec *s, struct err *e) MUST_CHECK;
/* Options that create and update share (limits, restart, update, health, …). */
int spec_apply(struct ctl *c, Skep__ServiceSpec *s, struct err *e) MUST_CHECK;
/* Rules between options and the service's mode. */
int spec_check(struct ctl *c, const Skep__ServiceSpec *s, struct err *e) MUST_CHECK;
/* Fills in the messages that every spec has, so that the rest can write to them. */
void spec_fill(struct arena *a, Skep__ServiceSpec *s);

/* Adds every value of a list flag to a repeated field through a parser. */
int spec_add_mounts(struct ctl *c, const char *flag, Skep__ContainerSpec *k,
                    struct err *e) MUST_CHECK;
int spec_add_secrets(struct ctl *c, const char *flag, Skep__ContainerSpec *k,
                     struct err *e) MUST_CHECK;
int spec_add_configs(struct ctl *c, const char *flag, Skep__ContainerSpec *k,
                     struct err *e) MUST_CHECK;
int spec_add_ports(struct ctl *c, const char *flag, Skep__EndpointSpec *ep,
                   struct err *e) MUST_CHECK;
/* Prefixes e with docker's words for a bad value of a flag. */
int spec_bad_value(struct ctl *c, const char *flag, const char *value, struct err *e);

/* registry_auth.c: the X-Registry-Auth value for image from docker's configuration, "" when it has
 * none. text is the content of config.json. */
int registry_auth(struct arena *a, const char *text, const char *image, const char **ret,
                  struct err *e) MUST_CHECK;
/* Reads $DOCKER_CONFIG/config.json or ~/.docker/config.json. */
int registry_auth_read(struct ctl *c, const char *image, const char **ret,
                       struct err *e) MUST_CHECK;

/* names.c: a random name of two words, for services that got none. */
const char *name_random(struct arena *a);

#endif
