/* A plugin of QEMU's user mode that counts executed instructions.
 *
 * Whenever the program calls getppid, which asks for nothing that a program needs, the count so far
 * is written to standard error: what lies between two calls is counted without what lies before.
 *
 * QEMU's plugin API, version 1: https://www.qemu.org/docs/master/devel/tcg-plugins.html. Its
 * prototypes are written out, for Debian's package has no header.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORTED __attribute__((visibility("default")))
#define GETPPID 173 /* on ARM64 */

typedef uint64_t id_t_;
struct qemu_plugin_tb;
struct qemu_info;
enum operation { ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum operation, void *,
                                              uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(id_t_,
                                          void (*)(id_t_, unsigned, int64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORTED int qemu_plugin_version = 1;

static uint64_t executed;

static void translated(id_t_ id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void called(id_t_ id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == GETPPID) {
        fprintf(stderr, "instructions %llu\n", (unsigned long long)executed);
    }
}

EXPORTED int qemu_plugin_install(id_t_ id, const struct qemu_info *info, int count, char **given)
{
    (void)info, (void)count, (void)given;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
