@file:Suppress("FunctionName") // they are the library's

package com.google.ai.edge.litert

import com.sun.jna.Library
import com.sun.jna.Native
import com.sun.jna.Pointer
import com.sun.jna.ptr.LongByReference
import com.sun.jna.ptr.PointerByReference

/**
 * What is used of LiteRT's C API (`litert/c` in its sources), as `libLiteRt.so` of the Python package
 * `ai-edge-litert` 2.3 has it. Indices and sizes are `size_t`; every call returns a status, 0 if well.
 */
internal interface CApi : Library {
    fun LiteRtCreateEnvironment(optionCount: Int, options: Pointer?, environment: PointerByReference): Int

    fun LiteRtCreateModelFromFile(environment: Pointer, path: String, model: PointerByReference): Int

    fun LiteRtDestroyModel(model: Pointer)

    fun LiteRtCreateOptions(options: PointerByReference): Int

    fun LiteRtDestroyOptions(options: Pointer)

    fun LiteRtSetOptionsHardwareAccelerators(options: Pointer, accelerators: Int): Int

    /** The payload is freed by the destructor, with the options that it is added to. */
    fun LiteRtCreateOpaqueOptions(
        identifier: String, payload: Pointer, destructor: Pointer, options: PointerByReference,
    ): Int

    fun LiteRtAddOpaqueOptions(options: Pointer, opaque: Pointer): Int

    fun LiteRtCreateCompiledModel(
        environment: Pointer, model: Pointer, options: Pointer, compiled: PointerByReference,
    ): Int

    fun LiteRtDestroyCompiledModel(compiled: Pointer)

    fun LiteRtGetNumModelSignatures(model: Pointer, count: LongByReference): Int

    fun LiteRtGetModelSignature(model: Pointer, index: Long, signature: PointerByReference): Int

    fun LiteRtGetSignatureKey(signature: Pointer, key: PointerByReference): Int

    fun LiteRtGetNumSignatureInputs(signature: Pointer, count: LongByReference): Int

    fun LiteRtGetSignatureInputName(signature: Pointer, index: Long, name: PointerByReference): Int

    fun LiteRtGetSignatureInputTensorByIndex(signature: Pointer, index: Long, tensor: PointerByReference): Int

    fun LiteRtGetNumSignatureOutputs(signature: Pointer, count: LongByReference): Int

    fun LiteRtGetSignatureOutputName(signature: Pointer, index: Long, name: PointerByReference): Int

    fun LiteRtGetSignatureOutputTensorByIndex(signature: Pointer, index: Long, tensor: PointerByReference): Int

    /** [type]: `LiteRtRankedTensorType`, [RANKED_TYPE_BYTES] long, which begins with the element's type. */
    fun LiteRtGetRankedTensorType(tensor: Pointer, type: Pointer): Int

    fun LiteRtGetCompiledModelInputBufferRequirements(
        compiled: Pointer, signature: Long, index: Long, requirements: PointerByReference,
    ): Int

    fun LiteRtGetCompiledModelOutputBufferRequirements(
        compiled: Pointer, signature: Long, index: Long, requirements: PointerByReference,
    ): Int

    fun LiteRtCreateManagedTensorBufferFromRequirements(
        environment: Pointer, type: Pointer, requirements: Pointer, buffer: PointerByReference,
    ): Int

    fun LiteRtDestroyTensorBuffer(buffer: Pointer)

    fun LiteRtGetTensorBufferPackedSize(buffer: Pointer, size: LongByReference): Int

    fun LiteRtLockTensorBuffer(buffer: Pointer, address: PointerByReference, mode: Int): Int

    fun LiteRtUnlockTensorBuffer(buffer: Pointer): Int

    fun LiteRtRunCompiledModel(
        compiled: Pointer, signature: Long, inputCount: Long, inputs: Array<Pointer>,
        outputCount: Long, outputs: Array<Pointer>,
    ): Int

    companion object {
        const val RANKED_TYPE_BYTES = 72L
        const val CPU = 1
        const val LOCK_READ = 0
        const val LOCK_WRITE = 1

        /** What `-Dclasskinfy.litert` names. */
        val library: CApi by lazy {
            val path = System.getProperty("classkinfy.litert")
                ?: throw LiteRtException("-Dclasskinfy.litert names no libLiteRt.so; give its path")
            Native.load(path, CApi::class.java)
        }

        fun check(status: Int, what: String) {
            if (status != 0) throw LiteRtException("cannot $what: status $status")
        }

        fun pointer(what: String, call: (PointerByReference) -> Int): Pointer {
            val reference = PointerByReference()
            check(call(reference), what)
            return reference.value
        }

        fun text(what: String, call: (PointerByReference) -> Int): String = pointer(what, call).getString(0)

        fun size(what: String, call: (LongByReference) -> Int): Long {
            val reference = LongByReference()
            check(call(reference), what)
            return reference.value
        }
    }
}
