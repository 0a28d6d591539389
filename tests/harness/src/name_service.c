/*
 * Answers psid's queries of users in place of the name service, as a directory service would. LD_PRELOAD loads it into an
 * unmodified psid; see name_service.rs.
 *
 *   PSI_USERS  a file of lines `NAME UID`, which is read for each query; a UID of "hang" never answers, and one of
 *              "fail" is an error
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getpwnam_r(const char *name, struct passwd *user, char *buffer, size_t size, struct passwd **result)
{
    char line[512], known[256], uid[64];
    const char *path = getenv("PSI_USERS");
    FILE *file = path ? fopen(path, "re") : NULL;
    int failed = 0;

    *result = NULL;
    if (!file)
        return EIO;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%255s %63s", known, uid) != 2 || strcmp(known, name) != 0)
            continue;
        if (strcmp(uid, "hang") == 0)
            for (;;)
                pause();
        if (strcmp(uid, "fail") == 0) {
            failed = EIO;
            break;
        }
        if (size < 2) {
            failed = ERANGE;
            break;
        }
        buffer[0] = '\0';
        memset(user, 0, sizeof *user);
        user->pw_name = user->pw_passwd = user->pw_gecos = user->pw_dir = user->pw_shell = buffer;
        user->pw_uid = user->pw_gid = (uid_t)strtoul(uid, NULL, 10);
        *result = user;
        break;
    }
    fclose(file);
    return failed;
}
