package org.classkinfy.litert

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import java.io.File
import java.io.IOException
import org.classkinfy.core.Engine
import org.classkinfy.core.EngineException
import org.classkinfy.core.EngineProvider

/** LiteRT on the CPU by XNNPACK, and by `gpu` or `npu` where that is asked for. */
class LitertEngineProvider : EngineProvider {
    override val name = "litert"
    override val format = "litert"

    /** Of the dependency in Gradle's catalogue, which a test compares: LiteRT itself does not tell. */
    override val version = "2.3.0"

    override fun open(model: ByteArray, name: String, threads: Int, accelerator: String?): Engine {
        val options = options(accelerator, threads)
        try {
            return LitertEngine(compiled(model, options), name)
        } catch (error: LiteRtException) {
            throw EngineException("$name cannot be opened by LiteRT $version: ${error.message}", error)
        } catch (error: IOException) {
            throw EngineException("$name cannot be handed to LiteRT: ${error.message}; free some storage", error)
        } catch (error: LinkageError) {
            throw EngineException("LiteRT's native library is missing; add one for this ABI: $error", error)
        }
    }

    /** LiteRT opens paths only, so the bytes that were hashed go through a file of the app's own. */
    private fun compiled(model: ByteArray, options: CompiledModel.Options): CompiledModel {
        val file = File.createTempFile("classkinfy", ".tflite")
        try {
            file.writeBytes(model)
            return CompiledModel.create(file.path, options)
        } finally {
            file.delete() // what is mapped into memory stays
        }
    }

    private fun options(accelerator: String?, threads: Int): CompiledModel.Options {
        // What an accelerator lacks, the CPU does.
        val options = when (accelerator) {
            null -> CompiledModel.Options(Accelerator.CPU)
            "gpu" -> CompiledModel.Options(Accelerator.GPU, Accelerator.CPU)
            "npu" -> CompiledModel.Options(Accelerator.NPU, Accelerator.CPU)
            else -> throw EngineException("LiteRT has no accelerator '$accelerator'; known: gpu, npu")
        }
        options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
        if (accelerator == "gpu") {
            // Its own choice is half precision, in which exact tensors are not.
            options.gpuOptions = CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32)
        }
        return options
    }
}
