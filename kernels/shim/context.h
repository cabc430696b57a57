// Switching between stacks: 16 instructions on x86-64, ucontext elsewhere (SHIM_UCONTEXT chooses it there, too).
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(SHIM_UCONTEXT)
struct Context {
    void* stack_pointer;
};

// Saves the callee's registers (System V ABI) on this stack and goes on where the other one was left. It jumps instead of
// returning: the processor's stack of return addresses would be wrong each time.
extern "C" void shim_switch(Context* from, const Context* to);
asm(R"(
.text
.globl shim_switch
.hidden shim_switch
.type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
.size shim_switch, .-shim_switch
)");

inline void switch_context(Context& from, const Context& to) { shim_switch(&from, &to); }

inline void make_context(Context& context, void* stack, size_t bytes, void (*entry)()) {
    uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + bytes) / 16 * 16;
    void** words = reinterpret_cast<void**>(top);
    // At its entry a function has its return address, here none, 8 bytes below a multiple of 16.
    *--words = nullptr;
    *--words = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--words = nullptr;
    context.stack_pointer = words;
}
#else
#include <ucontext.h>

struct Context {
    ucontext_t context;
};

inline void switch_context(Context& from, const Context& to) { swapcontext(&from.context, &to.context); }

inline void make_context(Context& context, void* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = bytes;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}
#endif
