/* Answers of NETWORKS for tests, from a text with one record or word a line:
 *
 *   network n1 front 10.0.1.0/24 fd01::/64 vni=4097 mtu=1400 internal ingress encrypted
 *   network n2 … encrypted ports=51820 key=1/7 key=2/8 send=1   (epoch / each byte of the key)
 *   peer m1 host-1 192.0.2.1 n1=10.0.1.250/24 instance=x1
 *   service s1 web vip n1=10.0.1.2/24,www,api      (aliases after the address)
 *   service s2 db dnsrr n1=,database               (no address)
 *   service s3 api vip n1=10.0.1.3/24 publish=8080:80/tcp/ingress publish=53:53/udp/host/192.0.2.1
 *   endpoint t1 web.1.t1 s1 m1 UP n1=10.0.1.5/24+fd01::5/64,alias hostname=box
 *   removed endpoint t1
 *   complete | more
 *
 * Ids are padded with zeros to the real length, by networks_id() too. "-" is an empty text. */
#ifndef SKEP_TEST_LIB_NETWORKS_TEXT_H
#define SKEP_TEST_LIB_NETWORKS_TEXT_H

#include "common/arena.h"
#include "proto/dispatcher.pb-c.h"

char *networks_id(struct arena *a, const char *text);
/* Memory in a; asserts that it understands the text. */
Skep__NetworksResponse *networks_parse(struct arena *a, const char *text);

#endif
