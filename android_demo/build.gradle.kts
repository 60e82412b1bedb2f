// Versions are in gradle/libs.versions.toml. Android's modules compile Kotlin by AGP itself.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.android.library) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
