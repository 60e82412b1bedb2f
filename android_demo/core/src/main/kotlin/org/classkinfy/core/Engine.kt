package org.classkinfy.core

/** One model file, opened by one runtime. Not for several threads at once. */
interface Engine : AutoCloseable {
    /**
     * Runs one entry of the file: the graph of an ONNX file, a signature of a LiteRT file.
     *
     * [inputs] has what the entry takes; of [outputs], each is given back in the dtype and
     * shape that it lists. Throws [EngineException].
     */
    fun run(entry: String, inputs: Map<String, Tensor>, outputs: List<TensorSpec>): Map<String, Tensor>
}

/** A runtime, found by `java.util.ServiceLoader`. */
interface EngineProvider {
    /** `onnxruntime` or `litert`, as [Options.runtime] names it. */
    val name: String

    /** The format that it reads, as the manifest names it: `onnx` or `litert`. */
    val format: String

    /** Of the runtime's library. */
    val version: String

    /**
     * Opens a model from its bytes, which were hashed and are not changed.
     *
     * [accelerator] is null for the CPU, or what this runtime calls one. Throws [EngineException], of an accelerator
     * that it does not have too.
     */
    fun open(model: ByteArray, name: String, threads: Int, accelerator: String?): Engine
}

/** Turns an encoded photo into upright pixels, found by `java.util.ServiceLoader`. */
interface Decoder {
    /** Decodes JPEG or PNG and applies its EXIF orientation. Throws [ImageException]. */
    fun decode(photo: ByteArray): Pixels
}
