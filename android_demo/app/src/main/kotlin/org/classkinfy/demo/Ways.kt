package org.classkinfy.demo

import org.classkinfy.core.EngineProvider
import org.classkinfy.core.Manifest
import org.classkinfy.core.Options

/** The ways to run a bundle that this app offers: every runtime on the CPU, and what it can run on besides. */
internal object Ways {
    private val ACCELERATORS = mapOf("onnxruntime" to listOf("xnnpack", "nnapi"), "litert" to listOf("gpu"))

    /** The default first. */
    fun of(manifest: Manifest, engines: List<EngineProvider>, threads: Int): List<Options> {
        val held = engines.filter { manifest.precisions(it.format).isNotEmpty() }
        val onCpu = held.map { Options(runtime = it.name, threads = threads) }
        val elsewhere = held.flatMap { engine ->
            // Accelerators compute in floats.
            val float = "fp32".takeIf { it in manifest.precisions(engine.format) }
            ACCELERATORS[engine.name].orEmpty().map { accelerator ->
                Options(engine.name, float, threads = threads, accelerator = accelerator)
            }
        }
        return onCpu + elsewhere
    }

    /** What to try in turn when one is wished: it, then the CPU with the same runtime, then the rest of the CPU. */
    fun inTurn(ways: List<Options>, wished: Options): List<Options> {
        val onCpu = ways.filter { it.accelerator == null }
        return (listOf(wished) + onCpu.filter { it.runtime == wished.runtime } + onCpu).distinct()
    }

    /** Large cores are half of a phone's at most, and small ones slow an answer down. */
    fun threads(processors: Int): Int = (processors / 2).coerceIn(1, 4)
}
