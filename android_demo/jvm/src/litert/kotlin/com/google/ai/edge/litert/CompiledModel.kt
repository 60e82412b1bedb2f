package com.google.ai.edge.litert

import com.sun.jna.Function
import com.sun.jna.Memory
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference

/**
 * A stand-in for LiteRT's Kotlin API on a desktop JVM: the part of `com.google.ai.edge.litert` that
 * engine-litert calls, over the same C API as LiteRT's own JNI library, which exists for Android only.
 * So engine-litert is compiled and run here, with real kernels. It is never part of an app.
 */
class CompiledModel private constructor(path: String, options: Options) : AutoCloseable {
    class CpuOptions(val numThreads: Int? = null)

    class GpuOptions(val precision: Precision? = null) {
        enum class Precision { DEFAULT, FP16, FP32 }
    }

    class Options(vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
        var gpuOptions: GpuOptions? = null
    }

    private val api = CApi.library
    private val model = CApi.pointer("read $path") { api.LiteRtCreateModelFromFile(environment, path, it) }
    private val compiled = compile(options)

    fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer {
        val entry = signature(signature)
        val index = entry.index(entry.inputs, inputName)
        val tensor = CApi.pointer("get $inputName") {
            api.LiteRtGetSignatureInputTensorByIndex(entry.handle, index, it)
        }
        return buffer(tensor) {
            api.LiteRtGetCompiledModelInputBufferRequirements(compiled, entry.number, index, it)
        }
    }

    fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer {
        val entry = signature(signature)
        val index = entry.index(entry.outputs, outputName)
        val tensor = CApi.pointer("get $outputName") {
            api.LiteRtGetSignatureOutputTensorByIndex(entry.handle, index, it)
        }
        return buffer(tensor) {
            api.LiteRtGetCompiledModelOutputBufferRequirements(compiled, entry.number, index, it)
        }
    }

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null) {
        val entry = signature(signature)
        val from = handles(entry.inputs, inputs)
        val into = handles(entry.outputs, outputs)
        val status = api.LiteRtRunCompiledModel(
            compiled, entry.number, from.size.toLong(), from, into.size.toLong(), into,
        )
        CApi.check(status, "run $signature")
    }

    override fun close() {
        api.LiteRtDestroyCompiledModel(compiled)
        api.LiteRtDestroyModel(model)
    }

    private fun compile(options: Options): Pointer {
        val others = options.accelerators.filter { it != Accelerator.CPU }
        if (others.isNotEmpty()) throw LiteRtException("there is no $others on this machine")
        val made = CApi.pointer("make options") { api.LiteRtCreateOptions(it) }
        try {
            CApi.check(api.LiteRtSetOptionsHardwareAccelerators(made, CApi.CPU), "choose the CPU")
            val threads = options.cpuOptions?.numThreads ?: 1
            val payload = strdup.invokePointer(arrayOf("num_threads = $threads\n"))
            val opaque = CApi.pointer("make CPU options") {
                api.LiteRtCreateOpaqueOptions("xnnpack", payload, free, it)
            }
            CApi.check(api.LiteRtAddOpaqueOptions(made, opaque), "set $threads threads")
            return CApi.pointer("compile") { api.LiteRtCreateCompiledModel(environment, model, made, it) }
        } finally {
            api.LiteRtDestroyOptions(made)
        }
    }

    private fun buffer(tensor: Pointer, requirements: (PointerByReference) -> Int): TensorBuffer {
        val type = Memory(CApi.RANKED_TYPE_BYTES)
        CApi.check(api.LiteRtGetRankedTensorType(tensor, type), "describe a tensor")
        val needed = CApi.pointer("ask what a tensor needs", requirements)
        return TensorBuffer(
            CApi.pointer("make a buffer") {
                api.LiteRtCreateManagedTensorBufferFromRequirements(environment, type, needed, it)
            },
        )
    }

    private fun handles(names: List<String>, buffers: Map<String, TensorBuffer>): Array<Pointer> =
        names.map { (buffers[it] ?: throw LiteRtException("no buffer for $it")).handle }.toTypedArray()

    private val signatures: List<Signature> by lazy {
        val count = CApi.size("count signatures") { api.LiteRtGetNumModelSignatures(model, it) }
        (0 until count).map { Signature(model, it) }
    }

    private fun signature(key: String?): Signature = signatures.firstOrNull { key == null || it.key == key }
        ?: throw LiteRtException("there is no signature $key, only ${signatures.map { it.key }}")

    companion object {
        @JvmStatic
        fun create(filePath: String, options: Options): CompiledModel = CompiledModel(filePath, options)

        /** One in a process, and never closed. */
        private val environment: Pointer by lazy {
            CApi.pointer("start") { CApi.library.LiteRtCreateEnvironment(0, null, it) }
        }
        private val strdup: Function by lazy { NativeLibrary.getProcess().getFunction("strdup") }
        private val free: Function by lazy { NativeLibrary.getProcess().getFunction("free") }
    }
}

private class Signature(model: Pointer, val number: Long) {
    private val api = CApi.library
    val handle: Pointer = CApi.pointer("get signature $number") { api.LiteRtGetModelSignature(model, number, it) }
    val key: String = CApi.text("name a signature") { api.LiteRtGetSignatureKey(handle, it) }
    val inputs: List<String> = List(
        CApi.size("count inputs") { api.LiteRtGetNumSignatureInputs(handle, it) }.toInt(),
    ) { at -> CApi.text("name an input") { api.LiteRtGetSignatureInputName(handle, at.toLong(), it) } }
    val outputs: List<String> = List(
        CApi.size("count outputs") { api.LiteRtGetNumSignatureOutputs(handle, it) }.toInt(),
    ) { at -> CApi.text("name an output") { api.LiteRtGetSignatureOutputName(handle, at.toLong(), it) } }

    fun index(names: List<String>, name: String): Long {
        val index = names.indexOf(name)
        if (index < 0) throw LiteRtException("signature $key has no $name, only $names")
        return index.toLong()
    }
}
