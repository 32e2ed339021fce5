/* What the managerd binary does instead of running: look at a stopped manager's data, or make a new
 * manager from a backup. Each takes its own command line (argv[0] is the subcommand) and returns
 * the exit status: 0, 1 when something is wrong, FLAGS_EXIT_USAGE. One thread. */
#ifndef SKEP_MANAGERD_OFFLINE_H
#define SKEP_MANAGERD_OFFLINE_H

/* Verifies keyring, member file, snapshots and log without changing them; prints what they hold. No
 * keys, tokens or secrets are printed. */
int inspect_main(int argc, char **argv);

/* Makes a new cluster of one manager from a backup file, with the CA that is in it: managerd then
 * starts normally. */
int restore_main(int argc, char **argv);

/* Runs the subcommand that argv[1] names; -1 when it names none. */
int offline_main(int argc, char **argv);

#endif
