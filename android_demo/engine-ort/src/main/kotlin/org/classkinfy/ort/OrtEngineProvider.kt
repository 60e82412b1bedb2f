package org.classkinfy.ort

import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import org.classkinfy.core.Engine
import org.classkinfy.core.EngineException
import org.classkinfy.core.EngineProvider

/** ONNX Runtime on the CPU, and on Android by NNAPI or XNNPACK where it is asked for. */
class OrtEngineProvider : EngineProvider {
    override val name = "onnxruntime"
    override val format = "onnx"
    override val version: String get() = environment.version

    override fun open(model: ByteArray, name: String, threads: Int, accelerator: String?): Engine {
        val runtime = environment // first of all: it loads the native library
        try {
            return OrtSession.SessionOptions().use { options ->
                options.setIntraOpNumThreads(threads)
                options.setInterOpNumThreads(1)
                accelerate(options, accelerator, threads)
                OrtEngine(runtime, runtime.createSession(model, options), name)
            }
        } catch (error: OrtException) {
            throw EngineException("$name cannot be opened by ONNX Runtime $version: ${error.message}", error)
        }
    }

    private fun accelerate(options: OrtSession.SessionOptions, accelerator: String?, threads: Int) {
        when (accelerator) {
            null -> Unit
            "nnapi" -> options.addNnapi()
            "xnnpack" -> options.addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
            else -> throw EngineException("ONNX Runtime has no accelerator '$accelerator'; known: nnapi, xnnpack")
        }
    }

    private companion object {
        // One in a process, and never closed: so ONNX Runtime has it.
        val environment: OrtEnvironment by lazy {
            try {
                silence()
                OrtEnvironment.getEnvironment().also { it.setTelemetry(false) }
            } catch (error: LinkageError) {
                throw EngineException("ONNX Runtime's native library is missing; add one for this ABI: $error", error)
            }
        }

        /** ONNX Runtime reads it as it is loaded. Off Android a program's environment has it before it starts. */
        private fun silence() {
            val os = try {
                Class.forName("android.system.Os")
            } catch (_: ClassNotFoundException) {
                return
            }
            val set = os.getMethod("setenv", String::class.java, String::class.java, Boolean::class.javaPrimitiveType)
            set.invoke(null, "ORT_DISABLE_TELEMETRY", "1", true)
        }
    }
}
