/* A private directory for one test, removed with what is in it. Made under $SKEP_TEST_DIR or the
 * build folder, so that tests of durability run on a real file system, not on tmpfs. */
#ifndef SKEP_TEST_LIB_TMPDIR_H
#define SKEP_TEST_LIB_TMPDIR_H

/* Returns the path (mode 0700), to be given to tmpdir_remove. Aborts when it cannot be made. */
char *tmpdir_new(void);
/* The same in memory where there is a /dev/shm: for tests whose power cuts are a model. */
char *tmpdir_new_in_memory(void);
/* Removes the files in it, its subdirectories one level deep, and itself; frees the path. */
void tmpdir_remove(char *path);
/* Removes what is in it. */
void tmpdir_empty(const char *path);
/* Copies the files of one directory into another, existing one. */
void tmpdir_copy(const char *from, const char *to);

#endif
