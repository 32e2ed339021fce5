/* Network namespaces for tests: a thread of its own world, without touching the host's. The calling
 * thread moves; it needs root, or a kernel that gives user namespaces to everyone. */
#ifndef SKEP_TEST_LIB_NETNS_LAB_H
#define SKEP_TEST_LIB_NETNS_LAB_H

/* Moves into a new namespace with lo up; returns a descriptor of it. Asserts. */
int netns_lab_new(void);
void netns_lab_enter(int fd);
/* Adds an IPv4 address ("10.0.1.1", a whole prefix of 32 bits) to lo, in the current namespace. */
void netns_lab_address(const char *address);

#endif
